/* Results and errno of the socket calls, on TCP sockets in every state and on what is no socket. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "say.h"

static void bad_descriptors(void) {
  char b[8];
  struct sockaddr_in a;
  socklen_t n = sizeof a;
  SAY(read(-1, b, 8));
  SAY(close(-1));
  SAY(close(999999));
  SAY(dup(-1));
  SAY(dup2(0, -1));
  SAY(accept(0, NULL, NULL));
  SAY(connect(-1, (struct sockaddr *)&a, sizeof a));
  SAY(listen(0, 1));
  SAY(getsockname(0, (struct sockaddr *)&a, &n));
  SAY(shutdown(-1, SHUT_RD));
  SAY(fcntl(-1, F_GETFL));
  SAY(ioctl(-1, FIONREAD, b));
  SAY(socket(AF_INET, SOCK_STREAM, 77));
  SAY(socket(12345, SOCK_STREAM, 0));
}

static void unconnected(void) {
  char b[8];
  int error = -1;
  socklen_t n = sizeof error;
  struct sockaddr_in a = {0};
  socklen_t an = sizeof a;
  int fd;
  SAY_FD(fd, socket(AF_INET, SOCK_STREAM, 0));
  SAY(recv(fd, b, 8, MSG_DONTWAIT));
  SAY(send(fd, b, 8, MSG_NOSIGNAL));
  SAY(getpeername(fd, (struct sockaddr *)&a, &an));
  SAY(shutdown(fd, SHUT_RDWR));
  SAY(accept(fd, NULL, NULL));
  SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
  SAY(error);
  SAY(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &error, &n));
  SAY(error);
  a.sin_family = AF_INET6;
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  a.sin_family = AF_INET;
  SAY(connect(fd, (struct sockaddr *)&a, 3));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  a.sin_port = htons(1);
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(close(fd));
  SAY(close(fd));
}

static void S1_nonblocking_connect(void) {
  struct sockaddr_in a;
  int fd, peer, error = -1;
  socklen_t n = sizeof error;
  int listener = listen_on_loopback(&a);
  SAY_FD(fd, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY_FD(peer, accept(listener, NULL, NULL));
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
  SAY(fcntl(fd, F_GETFL) & O_NONBLOCK);
  SAY(fcntl(peer, F_GETFL) & O_NONBLOCK);
  close(fd);
  close(peer);
  close(listener);
}

static void S8_flags(void) {
  int p[2];
  char b[64] = {0};
  struct msghdr m = {0};
  struct iovec v[3] = {{b, 2}, {b + 2, 0}, {b + 2, 5}};
  connected_pair(p);
  SAY(recv(p[1], b, 8, MSG_DONTWAIT));
  SAY(send(p[0], "hello world", 11, 0));
  SAY(recv(p[1], b, 5, MSG_PEEK));
  SAY(recv(p[1], b, 5, MSG_TRUNC));
  SAY(recv(p[1], b, 6, MSG_WAITALL));
  SAY(memcmp(b, " world", 6));
  m.msg_iov = v;
  m.msg_iovlen = 3;
  SAY(sendmsg(p[0], &m, 0));
  m.msg_name = b + 32;
  m.msg_namelen = 16;
  SAY(recvmsg(p[1], &m, 0));
  SAY(m.msg_namelen);
  SAY(m.msg_flags);
  m.msg_iovlen = 1025;
  SAY(sendmsg(p[0], &m, 0));
  SAY(send(p[0], (void *)8, 8, 0));
  SAY(recv(p[1], b, 8, MSG_ERRQUEUE | MSG_DONTWAIT));
  SAY(write(p[0], b, 0));
  SAY(read(p[1], b, 0));
  SAY(writev(p[0], v, -1));
  SAY(readv(p[1], v, 1025));
  SAY(lseek(p[0], 0, SEEK_CUR));
  SAY(pread(p[0], b, 1, 0));
  SAY(shutdown(p[0], SHUT_WR));
  SAY(recv(p[1], b, 8, 0));
  SAY(send(p[0], b, 1, MSG_NOSIGNAL));
  SAY(shutdown(p[0], 7));
  close(p[0]);
  close(p[1]);
}

static void S6_dup(void) {
  int p[2], q, r;
  char b[8];
  connected_pair(p);
  SAY_FD(q, dup(p[0]));
  SAY_FD(r, fcntl(q, F_DUPFD_CLOEXEC, 100));
  SAY(r >= 100);
  SAY(fcntl(r, F_GETFD));
  SAY(fcntl(q, F_SETFL, O_NONBLOCK));
  SAY(recv(p[0], b, 1, 0));
  SAY(close(p[0]));
  SAY(write(q, "x", 1));
  SAY(read(p[1], b, 8));
  SAY(dup2(r, p[1] + 20) == p[1] + 20);
  SAY(close(q));
  SAY(close(r));
  SAY(write(p[1] + 20, "y", 1));
  SAY(read(p[1], b, 8));
  SAY(close(p[1] + 20));
  SAY(read(p[1], b, 8));
  close(p[1]);
}

static void S15_S16_options(void) {
  int p[2], value = 1, got = 0, n = 0;
  socklen_t bytes = sizeof got;
  struct tcp_info info;
  char small[2];
  connected_pair(p);
  SAY(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
  SAY(getsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &got, &bytes));
  SAY(got);
  bytes = 2;
  SAY(getsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, small, &bytes));
  SAY(bytes);
  bytes = 0;
  SAY(getsockopt(p[0], SOL_SOCKET, SO_ERROR, small, &bytes));
  SAY(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &value, 2));
  SAY(setsockopt(p[0], SOL_SOCKET, 9999, &value, sizeof value));
  SAY(setsockopt(p[0], 9999, 1, &value, sizeof value));
  bytes = 7;
  SAY(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &info, &bytes));
  SAY(bytes);
  SAY(info.tcpi_state);
  SAY(write(p[0], "12345", 5));
  usleep(20000);
  SAY(ioctl(p[1], FIONREAD, &n));
  SAY(n);
  SAY(ioctl(p[0], TIOCOUTQ, &n));
  SAY(n);
  SAY(ioctl(p[0], FIONBIO, &value));
  SAY(fcntl(p[0], F_GETFL) & O_NONBLOCK);
  SAY(sockatmark(p[1]));
  close(p[0]);
  close(p[1]);
}

static void sends_a_file(void) {
  int p[2];
  char b[32] = {0};
  off_t at = 4;
  FILE *f = tmpfile();
  connected_pair(p);
  fputs("0123456789", f);
  fflush(f);
  SAY(lseek(fileno(f), 2, SEEK_SET));
  SAY(sendfile(p[0], fileno(f), NULL, 3));
  SAY(lseek(fileno(f), 0, SEEK_CUR));
  SAY(sendfile(p[0], fileno(f), &at, 100));
  SAY(at);
  SAY(recv(p[1], b, 9, MSG_WAITALL));
  puts(b);
  SAY(sendfile(fileno(f), p[0], NULL, 1));
  SAY(sendfile(p[0], 999999, NULL, 1));
  fclose(f);
  close(p[0]);
  close(p[1]);
}

static void streams_on_a_socket(void) {
  int p[2];
  char line[32];
  connected_pair(p);
  FILE *in = fdopen(p[1], "r");
  dprintf(p[0], "%s %d\n", "line", 7);
  SAY(fgets(line, sizeof line, in) != NULL);
  fputs(line, stdout);
  SAY(fclose(in));
  SAY(close(p[1]));
  SAY(close(p[0]));
}

int main(void) {
  bad_descriptors();
  unconnected();
  S1_nonblocking_connect();
  S8_flags();
  S6_dup();
  S15_S16_options();
  sends_a_file();
  streams_on_a_socket();
  return 0;
}
