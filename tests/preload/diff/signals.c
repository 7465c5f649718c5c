/* Signals that meet a call: EINTR, SA_RESTART, masks that change with the sleep (S5). */
#include "behaviour.h"

static long recv_4(int fd) {
  char b[4];
  return recv(fd, b, 4, 0);
}
static long recv_all_4(int fd) {
  char b[4];
  return recv(fd, b, 4, MSG_WAITALL);
}
static long readv_4(int fd) {
  char b[4];
  struct iovec v = {b, 4};
  return readv(fd, &v, 1);
}
static long poll_long(int fd) { return polled(fd, POLLIN, 3000); }
static long select_long(int fd) {
  fd_set r;
  struct timeval t = {3, 0};
  FD_ZERO(&r);
  FD_SET(fd, &r);
  return select(fd + 1, &r, NULL, NULL, &t);
}
static long epoll_long(int fd) {
  struct epoll_event e = {.events = EPOLLIN};
  const int ep = epoll_create1(0);
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  const long n = epoll_wait(ep, &e, 1, 3000);
  const int error = errno;
  close(ep);
  errno = error;
  return n;
}

/* The peer sends four bytes once told to. */
static void peer_sends(int fd) {
  char b = 'g';
  (void)fd;
  tell(&b, 1);
}
static void sends_when_told(int fd) {
  char b;
  hear(&b, 1);
  SAY(write(fd, "late", 4));
}

static void S5_receive_interrupted(int fd) {
  struct timeval t = {3, 0}, none = {0, 0};
  if (!serving) {
    for (int i = 0; i < 3; i++) sends_when_told(fd);
    SAY(write(fd, "ab", 2));
    step();
    step();
    return;
  }
  SAY(interrupted(0, recv_4, fd, NULL));
  SAY(interrupted(0, recv_all_4, fd, NULL));
  SAY(interrupted(0, readv_4, fd, NULL));
  SAY(interrupted(1, recv_4, fd, peer_sends));
  SAY(interrupted(1, recv_all_4, fd, peer_sends));
  SAY(interrupted(1, readv_4, fd, peer_sends));
  step();
  await_bytes(fd, 2);
  SAY(interrupted(0, recv_all_4, fd, NULL)); /* what is there already */
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  SAY(interrupted(1, recv_4, fd, NULL)); /* with a time-out nothing restarts */
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
  step();
}

static void S5_polls_never_restart(int fd) {
  if (!serving) {
    step();
    return;
  }
  SAY(interrupted(0, poll_long, fd, NULL));
  SAY(interrupted(1, poll_long, fd, NULL));
  SAY(interrupted(1, select_long, fd, NULL));
  SAY(interrupted(1, epoll_long, fd, NULL));
  step();
}

static char block[1 << 20];
static size_t taken;
static long send_block(int fd) {
  const ssize_t n = send(fd, block, sizeof block, 0);
  if (n > 0) taken += (size_t)n;
  return n;
}

static void S5_send_interrupted(int fd) {
  size_t sent = 0, got = 0;
  ssize_t n;
  if (serving) {
    step();
    while ((n = recv(fd, block, sizeof block, 0)) > 0) got += (size_t)n;
    hear(&sent, sizeof sent);
    SAY(got == sent);
    return;
  }
  while ((n = send(fd, block, sizeof block, MSG_DONTWAIT)) > 0) sent += (size_t)n;
  taken = 0;
  /* The peer's kernel may still take a little: until a call sleeps with nothing taken. */
  long result;
  do result = interrupted(0, send_block, fd, NULL);
  while (result > 0);
  SAY(result);
  sent += taken;
  step();
  SAY(shutdown(fd, SHUT_WR));
  tell(&sent, sizeof sent);
}

static volatile int alarms;
static void on_usr2(int number) {
  (void)number;
  alarms++;
}

static void S5_masks_change_with_the_sleep(int fd) {
  sigset_t blocked, none, before;
  struct sigaction a = {.sa_handler = on_usr2};
  struct timespec t = {2, 0};
  struct pollfd p = {fd, POLLIN, 0};
  struct epoll_event e = {.events = EPOLLIN};
  fd_set r;
  if (!serving) {
    step();
    return;
  }
  sigaction(SIGUSR2, &a, NULL);
  sigemptyset(&none);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &blocked, NULL);
  const int ep = epoll_create1(0);
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  alarms = 0;
  raise(SIGUSR2);
  SAY(poll(&p, 1, 10));
  SAY(ppoll(&p, 1, &t, &none));
  SAY(alarms);
  raise(SIGUSR2);
  SAY(epoll_wait(ep, &e, 1, 10));
  SAY(epoll_pwait(ep, &e, 1, 2000, &none));
  SAY(alarms);
  raise(SIGUSR2);
  FD_ZERO(&r);
  FD_SET(fd, &r);
  SAY(pselect(fd + 1, &r, NULL, NULL, &t, &none));
  SAY(alarms);
  raise(SIGUSR2);
  SAY(epoll_pwait2(ep, &e, 1, &t, &none));
  SAY(alarms);
  p.events = POLLOUT;
  raise(SIGUSR2);
  SAY(ppoll(&p, 1, &t, &none)); /* ready: does not sleep */
  SAY(alarms);
  pthread_sigmask(SIG_UNBLOCK, &blocked, &before);
  SAY(sigismember(&before, SIGUSR2));
  SAY(alarms);
  close(ep);
  step();
}

const struct behaviour signals[] = {{"S5_receive_interrupted", S5_receive_interrupted, CONNECTED},
                                    {"S5_polls_never_restart", S5_polls_never_restart, CONNECTED},
                                    {"S5_send_interrupted", S5_send_interrupted, CONNECTED},
                                    {"S5_masks_change_with_the_sleep", S5_masks_change_with_the_sleep, CONNECTED},
                                    {0}};
