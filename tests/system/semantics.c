/* One end of a differential test: runs the same scenarios over a real link, on the kernel and on libtto; what each end
 * prints must not depend on who serves it.
 *
 *   semantics serve ADDRESS PORT     semantics call ADDRESS PORT     both IPv4 or both IPv6
 *
 * Each scenario has its own connection; the ends step together by a byte over a second one. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(call)                                                                                                       \
  do {                                                                                                                  \
    errno = 0;                                                                                                          \
    long say_result = (long)(call);                                                                                     \
    printf("%s %s = %ld %s\n", __func__, #call, say_result, say_result < 0 ? strerrorname_np(errno) : "");              \
    fflush(stdout);                                                                                                     \
  } while (0)

static int serving, control, listener;
static struct sockaddr_storage address;
static socklen_t address_bytes;

static void step(void) {
  char b = 's';
  if (serving) {
    if (write(control, &b, 1) != 1 || read(control, &b, 1) != 1) exit(90);
  } else {
    if (read(control, &b, 1) != 1 || write(control, &b, 1) != 1) exit(90);
  }
  if (serving) usleep(120000); /* the caller acts at once, the server looks when it has arrived */
}

static int connection(void) {
  if (serving) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) exit(91);
    return fd;
  }
  int fd = socket(address.ss_family, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, address_bytes) < 0) {
    perror("connect");
    exit(92);
  }
  return fd;
}

static short polled(int fd, short events, int ms) {
  struct pollfd p = {fd, events, 0};
  return poll(&p, 1, ms) < 0 ? -1 : p.revents;
}

/* The side that acts, and the one that watches it. */
static void S8_flags(int fd) {
  char b[64] = {0};
  struct iovec v[2] = {{b, 3}, {b + 8, 20}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  int n = 0;
  if (serving) {
    SAY(recv(fd, b, 8, MSG_DONTWAIT));
    SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
    step();
    SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 1000));
    SAY(ioctl(fd, FIONREAD, &n));
    SAY(n);
    SAY(recv(fd, b, 5, MSG_PEEK));
    SAY(recv(fd, b, 64, MSG_PEEK));
    SAY(recv(fd, NULL, 0, 0));
    SAY(recv(fd, b, 2, MSG_TRUNC));
    SAY(recvmsg(fd, &m, 0));
    printf("%.3s|%.6s\n", b, b + 8);
    SAY(recv(fd, b, 64, MSG_DONTWAIT));
    step();
    SAY(recv(fd, b, 10, MSG_WAITALL));
    SAY(recv(fd, b, 64, 0));
    SAY(recv(fd, b, 64, 0));
    SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
    SAY(send(fd, "reply", 5, 0));
  } else {
    step();
    SAY(send(fd, "hello world", 11, 0));
    step();
    SAY(write(fd, "01234", 5));
    usleep(20000);
    SAY(writev(fd, v, 1));
    SAY(send(fd, "5678", 4, MSG_MORE));
    SAY(shutdown(fd, SHUT_WR));
    SAY(send(fd, "x", 1, MSG_NOSIGNAL));
    SAY(recv(fd, b, 5, MSG_WAITALL));
  }
}

static void half_close_and_reset(int fd) {
  char b[8];
  int error = -1;
  socklen_t n = sizeof error;
  if (serving) {
    step();
    SAY(close(fd)); /* unread data: RST */
    step();
    return;
  }
  SAY(write(fd, "unread", 6));
  step();
  step();
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 1000));
  SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
  printf("%s\n", strerrorname_np(error));
  SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
  SAY(error);
  SAY(recv(fd, b, 8, 0));
  SAY(send(fd, b, 8, MSG_NOSIGNAL));
}

static void R61_reset_is_told_once(int fd) {
  char b[16];
  struct linger now = {1, 0};
  if (serving) {
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    SAY(close(fd));
    step();
    return;
  }
  step();
  SAY(recv(fd, b, 8, 0));
  SAY(recv(fd, b, 8, 0));
  SAY(send(fd, b, 8, MSG_NOSIGNAL));
}

static void S9_timeouts(int fd) {
  struct timeval t = {0, 60000};
  char b[8];
  if (serving) {
    SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    SAY(recv(fd, b, 8, 0));
    SAY(read(fd, b, 8));
    step();
    SAY(recv(fd, b, 8, MSG_WAITALL));
    step();
  } else {
    step();
    SAY(write(fd, "abc", 3));
    step();
  }
}

static void full_send_buffer(int fd) {
  static char block[65536];
  struct timeval t = {0, 50000};
  if (serving) {
    step();
    size_t got = 0;
    ssize_t n;
    while ((n = recv(fd, block, sizeof block, 0)) > 0) got += (size_t)n;
    step();
    size_t sent = 0;
    if (read(control, &sent, sizeof sent) != sizeof sent) exit(93);
    SAY(got == sent);
    SAY(n);
    return;
  }
  SAY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
  size_t sent = 0;
  ssize_t n;
  while ((n = send(fd, block, sizeof block, 0)) > 0) sent += (size_t)n;
  SAY(n);
  SAY(errno == EAGAIN);
  SAY(polled(fd, POLLOUT, 0));
  fcntl(fd, F_SETFL, O_NONBLOCK);
  SAY(send(fd, block, sizeof block, 0) < 0 && errno == EAGAIN);
  int queued = 0;
  SAY(ioctl(fd, SIOCOUTQ, &queued));
  SAY(queued > 0);
  step();
  SAY(polled(fd, POLLOUT, 5000));
  SAY(shutdown(fd, SHUT_WR));
  step();
  if (write(control, &sent, sizeof sent) != sizeof sent) exit(93);
}

static _Atomic pid_t reader;

static void *reads_blocked(void *fd) {
  char b[8] = {0};
  reader = gettid();
  ssize_t n = recv(*(int *)fd, b, 4, 0);
  return (void *)(long)n;
}

/* Until the reading thread sleeps in its recv(). */
static void await_reader(void) {
  for (int i = 0; i < 3000; i++, usleep(10000)) {
    char path[64], b[256] = {0};
    if (reader == 0) continue;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", reader);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, b, sizeof b - 1);
    close(fd);
    const char *end = n > 0 ? strrchr(b, ')') : NULL;
    if (end && end[2] == 'S') break;
  }
  reader = 0;
  usleep(50000);
}

static void S17_close_while_blocked(int fd) {
  pthread_t thread;
  void *n;
  if (!serving) {
    step();
    SAY(write(fd, "late", 4));
    step();
    return;
  }
  int copy = fd;
  pthread_create(&thread, NULL, reads_blocked, &copy);
  await_reader();
  SAY(close(fd));
  step();
  pthread_join(thread, &n);
  SAY((long)n);
  step();
}

static void S7_shutdown_wakes(int fd) {
  pthread_t thread;
  void *n;
  if (!serving) {
    char b[4];
    step();
    SAY(recv(fd, b, 4, 0));
    return;
  }
  pthread_create(&thread, NULL, reads_blocked, &fd);
  await_reader();
  SAY(shutdown(fd, SHUT_RDWR));
  pthread_join(thread, &n);
  SAY((long)n);
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  step();
}

static int by_data(const void *a, const void *b) {
  const struct epoll_event *x = a, *y = b;
  return (int)x->data.u32 - (int)y->data.u32;
}

/* In the order of their data: the kernel promises none. */
static void print_events(const char *what, int epfd, int ms) {
  struct epoll_event e[8];
  int n = epoll_wait(epfd, e, 8, ms);
  if (n > 0) qsort(e, (size_t)n, sizeof e[0], by_data);
  printf("%s %d:", what, n);
  for (int i = 0; i < n; i++) printf(" %x/%d", e[i].events, e[i].data.fd < 0 ? -1 : (int)e[i].data.u32);
  puts("");
  fflush(stdout);
}

static void S3_epoll(int fd) {
  char b[64];
  if (!serving) {
    for (int i = 0; i < 5; i++) {
      step();
      SAY(write(fd, "x", 1));
    }
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  int lt = epoll_create1(0), et = epoll_create1(0), outer = epoll_create1(0), copy = dup(fd);
  struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = 1};
  SAY(epoll_ctl(lt, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(lt, EPOLL_CTL_ADD, fd, &e));
  e.data.u32 = 2;
  SAY(epoll_ctl(lt, EPOLL_CTL_ADD, copy, &e));
  e.events = EPOLLIN | EPOLLOUT | EPOLLET;
  e.data.u32 = 3;
  SAY(epoll_ctl(et, EPOLL_CTL_ADD, fd, &e));
  e.events = EPOLLIN;
  e.data.u32 = 4;
  SAY(epoll_ctl(outer, EPOLL_CTL_ADD, lt, &e));
  print_events("lt", lt, 0);
  print_events("et", et, 0);
  print_events("et", et, 0);
  print_events("outer", outer, 0);
  step();
  print_events("outer", outer, 1000);
  print_events("lt", lt, 1000);
  print_events("et", et, 1000);
  print_events("et", et, 0);
  step();
  print_events("et", et, 1000); /* a new arrival, the old data unread */
  SAY(recv(fd, b, sizeof b, 0));
  print_events("lt", lt, 0);
  print_events("outer", outer, 0);
  e.events = EPOLLIN | EPOLLONESHOT;
  e.data.u32 = 5;
  SAY(epoll_ctl(et, EPOLL_CTL_MOD, fd, &e));
  step();
  print_events("oneshot", et, 1000);
  print_events("oneshot", et, 0);
  SAY(epoll_ctl(et, EPOLL_CTL_MOD, fd, &e));
  print_events("oneshot", et, 1000);
  SAY(epoll_ctl(lt, EPOLL_CTL_DEL, copy, NULL));
  SAY(epoll_ctl(lt, EPOLL_CTL_DEL, copy, NULL));
  print_events("lt", lt, 0);
  step();
  SAY(recv(fd, b, sizeof b, 0));
  print_events("lt", lt, 0);
  SAY(close(copy));
  step();
  SAY(polled(lt, POLLIN, 1000));
  SAY(recv(fd, b, sizeof b, 0));
  step();
  print_events("lt", lt, 1000);
  SAY(close(fd));
  print_events("lt", lt, 0);
  print_events("et", et, 0);
  step();
  close(lt);
  close(et);
  close(outer);
}

static void selects_with_a_pipe(int fd) {
  char b[8];
  int p[2];
  fd_set r, w;
  struct timeval t = {1, 0};
  if (!serving) {
    step();
    SAY(write(fd, "x", 1));
    step();
    return;
  }
  SAY(pipe(p));
  int most = (fd > p[0] ? fd : p[0]) + 1;
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(fd, &r);
  FD_SET(p[0], &r);
  FD_SET(fd, &w);
  SAY(select(most, &r, &w, NULL, &t));
  SAY(FD_ISSET(fd, &w) != 0);
  SAY(FD_ISSET(fd, &r) != 0);
  SAY(write(p[1], "p", 1));
  FD_ZERO(&r);
  FD_SET(fd, &r);
  FD_SET(p[0], &r);
  SAY(select(most, &r, NULL, NULL, NULL));
  SAY(FD_ISSET(p[0], &r) != 0);
  SAY(read(p[0], b, 8));
  step();
  FD_ZERO(&r);
  FD_SET(fd, &r);
  FD_SET(p[0], &r);
  SAY(select(most, &r, NULL, NULL, NULL));
  SAY(FD_ISSET(fd, &r) != 0);
  close(p[0]);
  close(p[1]);
  step();
}

static void nothing(int signal) { (void)signal; }

static void S5_signals(int fd) {
  char b[8];
  if (!serving) {
    step();
    usleep(450000);
    SAY(write(fd, "late", 4));
    step();
    return;
  }
  struct sigaction a = {.sa_handler = nothing};
  struct itimerval soon = {.it_value = {0, 120000}};
  sigaction(SIGALRM, &a, NULL);
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY(recv(fd, b, 8, 0));
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY(polled(fd, POLLIN, 2000));
  a.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &a, NULL);
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY(polled(fd, POLLIN, 2000));
  step();
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY(recv(fd, b, 8, 0));
  step();
}

static void names_and_options(int fd) {
  struct sockaddr_storage a;
  char text[64];
  struct tcp_info info;
  int value = 0, one = 1;
  socklen_t n = sizeof a;
  memset(&a, 0, sizeof a);
  SAY(serving ? getsockname(fd, (struct sockaddr *)&a, &n) : getpeername(fd, (struct sockaddr *)&a, &n));
  SAY(n);
  SAY(a.ss_family);
  inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr
                                                : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr, text, sizeof text);
  puts(text);
  n = 4;
  SAY(getpeername(fd, (struct sockaddr *)&a, &n));
  SAY(n);
  SAY(connect(fd, (struct sockaddr *)&address, address_bytes));
  SAY(listen(fd, 1) < 0);
  SAY(accept(fd, NULL, NULL));
  n = sizeof value;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n));
  SAY(value);
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n));
  SAY(value);
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 1));
  n = sizeof info;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n));
  SAY(info.tcpi_state);
  n = 1;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n));
  SAY(n);
  n = 2;
  SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &n));
  SAY(n);
  n = sizeof value;
  SAY(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &n));
  SAY(value);
  SAY(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &n));
  SAY(value); /* inherited from the listener */
  SAY(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
  SAY(lseek(fd, 0, SEEK_CUR));
  SAY(setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof one));
  step();
}

static void S1_refused(int fd) {
  (void)fd;
  if (serving) {
    step();
    return;
  }
  struct sockaddr_storage closed = address;
  int error = 0, s = socket(closed.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socklen_t n = sizeof error;
  ((struct sockaddr_in *)&closed)->sin_port = htons(9); /* at the same place in both families */
  SAY(connect(s, (struct sockaddr *)&closed, address_bytes));
  SAY(polled(s, POLLIN | POLLOUT, 3000));
  SAY(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &n));
  printf("%s\n", strerrorname_np(error));
  SAY(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &n));
  SAY(error);
  SAY(connect(s, (struct sockaddr *)&closed, address_bytes));
  SAY(fcntl(s, F_SETFL, 0));
  SAY(connect(s, (struct sockaddr *)&closed, address_bytes));
  SAY(connect(s, (struct sockaddr *)&closed, address_bytes));
  SAY(close(s));
  step();
}

static void S1_in_progress_then_epoll(int fd) {
  (void)fd;
  if (serving) {
    step();
    int peer = accept(listener, NULL, NULL);
    SAY(write(peer, "hi", 2));
    step();
    close(peer);
    return;
  }
  char b[8];
  int s = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLOUT | EPOLLIN, .data.u32 = 7};
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
  print_events("unconnected", ep, 0);
  SAY(connect(s, (struct sockaddr *)&address, address_bytes));
  step();
  print_events("connected", ep, 2000);
  SAY(connect(s, (struct sockaddr *)&address, address_bytes) == 0 || errno == EISCONN);
  SAY(connect(s, (struct sockaddr *)&address, address_bytes));
  e.events = EPOLLIN;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
  print_events("readable", ep, 2000);
  SAY(recv(s, b, 8, 0));
  step();
  close(s);
  close(ep);
}

static void S13_children(int fd) {
  char b[16] = {0};
  if (!serving) {
    step();
    SAY(write(fd, "go", 2));
    SAY(recv(fd, b, 6, MSG_WAITALL));
    step();
    return;
  }
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) _exit(close(fd) == 0 ? 3 : 4); /* its close must not end the parent's connection */
  int status = 0;
  waitpid(child, &status, 0);
  SAY(WEXITSTATUS(status));
  SAY(WEXITSTATUS(system("exit 5")));
  step();
  SAY(recv(fd, b, 8, 0));
  SAY(write(fd, "parent", 6));
  step();
}

static void listener_in_epoll(int fd) {
  (void)fd;
  if (!serving) {
    step();
    int s = socket(address.ss_family, SOCK_STREAM, 0);
    SAY(connect(s, (struct sockaddr *)&address, address_bytes));
    step();
    close(s);
    return;
  }
  int ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = 9};
  SAY(fcntl(listener, F_SETFL, O_NONBLOCK));
  SAY(fcntl(listener, F_GETFL) & O_NONBLOCK);
  SAY(accept(listener, NULL, NULL));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e));
  print_events("listener", ep, 0);
  step();
  print_events("listener", ep, 2000);
  print_events("listener", ep, 2000);
  SAY(polled(listener, POLLIN, 0));
  int peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  SAY(peer >= 0);
  SAY((fcntl(peer, F_GETFL) & O_NONBLOCK) != 0);
  print_events("listener", ep, 0);
  SAY(fcntl(listener, F_SETFL, 0));
  SAY(fcntl(listener, F_GETFL) & O_NONBLOCK);
  step();
  close(peer);
  close(ep);
}

#include "semantics_urgent.h"
int main(int argc, char **argv) {
  if (argc != 4) return 2;
  serving = strcmp(argv[1], "serve") == 0;
  struct sockaddr_in *a4 = (struct sockaddr_in *)&address;
  struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&address;
  if (inet_pton(AF_INET, argv[2], &a4->sin_addr) == 1) {
    a4->sin_family = AF_INET;
    address_bytes = sizeof *a4;
  } else if (inet_pton(AF_INET6, argv[2], &a6->sin6_addr) == 1) {
    a6->sin6_family = AF_INET6;
    address_bytes = sizeof *a6;
  } else {
    return 2;
  }
  a4->sin_port = htons((uint16_t)atoi(argv[3]));
  signal(SIGPIPE, SIG_IGN);
  alarm(100);
  if (serving) {
    int one = 1;
    listener = socket(address.ss_family, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, address_bytes) < 0 || listen(listener, 16) < 0) return 3;
  }
  control = connection();
  void (*const scenarios[])(int) = {S8_flags, half_close_and_reset, R61_reset_is_told_once, S9_timeouts,
                                    full_send_buffer, S17_close_while_blocked, S7_shutdown_wakes, S3_epoll,
                                    selects_with_a_pipe, S5_signals, names_and_options, S1_refused,
                                    S1_in_progress_then_epoll, listener_in_epoll, S13_children, R52_urgent};
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
    int fd = connection();
    scenarios[i](fd);
    close(fd);
    step();
  }
  puts("done");
  return 0;
}
