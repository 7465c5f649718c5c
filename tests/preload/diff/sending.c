/* Sending: vectors, full buffers, signals of broken pipes, what is queued (S8, S9, S10, S15). */
#include <sys/sendfile.h>

#include "behaviour.h"

static void S10_writev_of_1024(int fd) {
  static struct iovec v[1025];
  static char b[1025 * 3];
  if (serving) {
    static char got[4096];
    SAY(recv(fd, got, 3 * 1024 - 3, MSG_WAITALL));
    size_t sum = 0;
    for (size_t i = 0; i < sizeof got; i++) sum = sum * 31 + (unsigned char)got[i];
    SAY(sum);
    step();
    return;
  }
  for (size_t i = 0; i < sizeof b; i++) b[i] = (char)('a' + i % 23);
  for (int i = 0; i < 1025; i++) v[i] = (struct iovec){b + 3 * i, 3};
  v[7].iov_len = 0;
  SAY(writev(fd, v, 1025));
  SAY(writev(fd, v, -1));
  SAY(writev(fd, (struct iovec*)8, 2));
  SAY(writev(fd, v, 1024));
  SAY(writev(fd, v, 0));
  struct iovec too_long[2] = {{b, SIZE_MAX / 2 + 1}, {b, 1}};
  SAY(writev(fd, too_long, 2));
  step();
}

static void S10_zero_length(int fd) {
  char b[4] = "abc";
  struct msghdr none = {0};
  struct iovec empty = {b, 0};
  if (serving) {
    SAY(recv(fd, b, 3, MSG_WAITALL));
    SAY(recv(fd, b, 3, MSG_WAITALL));
    step();
    return;
  }
  SAY(write(fd, b, 0));
  SAY(write(fd, NULL, 0));
  SAY(send(fd, b, 0, 0));
  SAY(send(fd, b, 0, MSG_MORE));
  SAY(writev(fd, &empty, 1));
  SAY(sendmsg(fd, &none, 0));
  SAY(write(fd, b, 3));
  SAY(shutdown(fd, SHUT_WR));
  SAY(send(fd, b, 0, MSG_NOSIGNAL));
  SAY(write(fd, b, 0));
  step();
}

static volatile int pipes_broken;
static void on_pipe(int number) {
  (void)number;
  pipes_broken++;
}

static void S8_broken_pipe(int fd) {
  char b[4] = "abc";
  struct iovec v = {b, 3};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  if (serving) {
    SAY(recv(fd, b, 3, MSG_WAITALL));
    step();
    return;
  }
  signal(SIGPIPE, on_pipe);
  SAY(shutdown(fd, SHUT_WR));
  SAY(send(fd, b, 3, MSG_NOSIGNAL));
  SAY(pipes_broken);
  SAY(send(fd, b, 3, 0));
  SAY(pipes_broken);
  SAY(write(fd, b, 3));
  SAY(writev(fd, &v, 1));
  SAY(sendmsg(fd, &m, 0));
  SAY(dprintf(fd, "abc"));
  SAY(pipes_broken);
  SAY(sendmsg(fd, &m, MSG_NOSIGNAL));
  SAY(pipes_broken);
  signal(SIGPIPE, SIG_IGN);
  step();
}

static void S8_messages_sent(int fd) {
  char b[32] = "abcdef", control[64] = {0};
  struct iovec v[2] = {{b, 3}, {b + 3, 3}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  if (serving) {
    SAY(recv(fd, b, 24, MSG_WAITALL));
    printf("%.24s\n", b);
    SAY(recv(fd, b, 1, 0));
    step();
    return;
  }
  SAY(sendmsg(fd, &m, 0));
  m.msg_name = &server;
  m.msg_namelen = address_bytes;
  SAY(sendmsg(fd, &m, 0));
  SAY(sendto(fd, b, 2, 0, (struct sockaddr*)&silent, address_bytes));
  SAY(sendto(fd, b, 2, 0, (struct sockaddr*)8, address_bytes));
  m.msg_name = NULL;
  m.msg_iovlen = 1025;
  SAY(sendmsg(fd, &m, 0));
  SAY(sendmsg(fd, (struct msghdr*)8, 0));
  m.msg_iovlen = 1;
  m.msg_control = control; /* a header of length 0 */
  m.msg_controllen = 16;
  SAY(sendmsg(fd, &m, 0));
  m.msg_control = (void*)8;
  SAY(sendmsg(fd, &m, 0));
  struct cmsghdr* c = (struct cmsghdr*)control;
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = 9999;
  c->cmsg_len = CMSG_LEN(0);
  m.msg_control = control;
  SAY(sendmsg(fd, &m, 0));
  c->cmsg_level = IPPROTO_UDP;
  SAY(sendmsg(fd, &m, 0));
  struct mmsghdr two[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = v, .msg_iovlen = 2}}};
  SAY(sendmmsg(fd, two, 2, MSG_DONTWAIT));
  SAY(two[0].msg_len * 100 + two[1].msg_len);
  SAY(sendmmsg(fd, two, 0, 0));
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static char block[65536];

static void drains(int fd) {
  size_t got = 0, sent = 0;
  ssize_t n;
  step();
  while ((n = recv(fd, block, sizeof block, 0)) > 0) got += (size_t)n;
  step();
  hear(&sent, sizeof sent);
  SAY(got == sent);
  SAY(n);
}

static void S9_full_send_buffer(int fd) {
  struct timeval t = {0, 50000};
  if (serving) {
    drains(fd);
    return;
  }
  const int ep = epoll_with(fd, EPOLLOUT | EPOLLET, 1);
  say_events("empty", ep, 0);
  SAY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
  size_t sent = 0;
  ssize_t n;
  while ((n = send(fd, block, sizeof block, 0)) > 0) sent += (size_t)n;
  SAY(n);
  SAY(errno == EAGAIN);
  SAY(polled(fd, POLLOUT, 0));
  SAY(polled(fd, POLLOUT, 20));
  SAY(fcntl(fd, F_SETFL, O_NONBLOCK));
  SAY(write(fd, block, sizeof block));
  SAY(send(fd, block, 0, 0));
  int queued = 0;
  SAY(ioctl(fd, SIOCOUTQ, &queued));
  SAY(queued > 0);
  step();
  say_events("drained", ep, 5000);
  SAY(polled(fd, POLLOUT, 5000));
  SAY(shutdown(fd, SHUT_WR));
  step();
  tell(&sent, sizeof sent);
  close(ep);
}

static void S8_dontwait_sends_a_part(int fd) {
  if (serving) {
    drains(fd);
    return;
  }
  size_t sent = 0;
  ssize_t n;
  while ((n = send(fd, block, sizeof block, MSG_DONTWAIT)) == sizeof block) sent += (size_t)n;
  SAY(n > 0 || errno == EAGAIN);
  sent += n > 0 ? (size_t)n : 0;
  step();
  SAY(shutdown(fd, SHUT_WR));
  step();
  tell(&sent, sizeof sent);
}

static void S15_outq(int fd) {
  int n = -1, one = 1, zero = 0;
  char b[16];
  if (serving) {
    step();
    SAY(recv(fd, b, 7, MSG_WAITALL));
    step();
    return;
  }
  SAY(ioctl(fd, SIOCOUTQ, &n));
  SAY(n);
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &one, sizeof one));
  SAY(write(fd, "abcdefg", 7));
  SAY(ioctl(fd, SIOCOUTQ, &n));
  SAY(n);
  SAY(ioctl(fd, SIOCOUTQNSD, &n));
  SAY(n);
  SAY(ioctl(fd, TIOCOUTQ, NULL));
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &zero, sizeof zero));
  step();
  step();
  await_acked(fd);
  SAY(ioctl(fd, SIOCOUTQ, &n));
  SAY(n);
  SAY(ioctl(fd, SIOCOUTQNSD, &n));
  SAY(n);
}

static void S8_sendfile(int fd) {
  char b[64] = {0};
  if (serving) {
    SAY(recv(fd, b, 18, MSG_WAITALL));
    puts(b);
    SAY(recv(fd, b, 1, 0));
    step();
    return;
  }
  FILE* f = tmpfile();
  const int in = fileno(f);
  int ends[2];
  off_t at = 4, past = 100, below = -1;
  fputs("0123456789", f);
  fflush(f);
  SAY(lseek(in, 2, SEEK_SET));
  SAY(sendfile(fd, in, NULL, 3));
  SAY(lseek(in, 0, SEEK_CUR));
  SAY(sendfile(fd, in, &at, 100));
  SAY(at);
  SAY(lseek(in, 0, SEEK_CUR));
  SAY(sendfile(fd, in, &past, 5));
  SAY(past);
  SAY(sendfile(fd, in, &below, 5));
  SAY(sendfile(fd, in, NULL, 0));
  SAY(sendfile(fd, in, (off_t*)8, 5));
  SAY(sendfile(fd, in, NULL, 100));
  SAY(sendfile(fd, in, NULL, 100));
  SAY(sendfile(in, fd, NULL, 1));
  SAY(sendfile(fd, fd, NULL, 1));
  SAY(sendfile(fd, 999999, NULL, 1));
  SAY(pipe(ends));
  SAY(sendfile(fd, ends[1], NULL, 1));
  SAY(lseek(in, 6, SEEK_SET));
  SAY(dprintf(fd, "%s-%d", "ab", 7));
  SAY(shutdown(fd, SHUT_WR));
  SAY(sendfile(fd, in, NULL, 2));
  SAY(lseek(in, 0, SEEK_CUR));
  close(ends[0]);
  close(ends[1]);
  fclose(f);
  step();
}

/* After the peer closed, the first bytes still go; its RST makes the rest fail. */
static void S8_peer_is_gone(int fd) {
  char b[4];
  if (serving) {
    SAY(close(fd));
    step();
    step();
    return;
  }
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  await_state(fd, TCP_CLOSE);
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(recv(fd, b, 4, 0));
  SAY(take_so_error(fd));
  step();
}

const struct behaviour sending[] = {{"S8_broken_pipe", S8_broken_pipe, CONNECTED},
                                    {"S8_messages_sent", S8_messages_sent, CONNECTED},
                                    {"S8_dontwait_sends_a_part", S8_dontwait_sends_a_part, CONNECTED},
                                    {"S8_sendfile", S8_sendfile, CONNECTED},
                                    {"S8_peer_is_gone", S8_peer_is_gone, CONNECTED},
                                    {"S9_full_send_buffer", S9_full_send_buffer, CONNECTED},
                                    {"S10_writev_of_1024", S10_writev_of_1024, CONNECTED},
                                    {"S10_zero_length", S10_zero_length, CONNECTED},
                                    {"S15_outq", S15_outq, CONNECTED},
                                    {0}};
