/* semantics.c: urgent data (R52). */
static volatile sig_atomic_t urgent_signals;
static void on_urgent_signal(int signal_number) {
  (void)signal_number;
  urgent_signals++;
}

static int pending_bytes(int fd) {
  int n = -1;
  ioctl(fd, FIONREAD, &n);
  return n;
}

static int polled_urgent(int fd) {
  struct pollfd p = {fd, POLLIN | POLLPRI | POLLOUT, 0};
  poll(&p, 1, 0);
  return p.revents;
}

static int is_exceptional(int fd) {
  fd_set set;
  struct timeval none = {0, 0};
  FD_ZERO(&set);
  FD_SET(fd, &set);
  return select(fd + 1, NULL, NULL, &set, &none);
}

static int first_byte(int fd, int flags) {
  char b[64] = {0};
  return recv(fd, b, sizeof b, flags | MSG_DONTWAIT) <= 0 ? -1 : b[0];
}

static void look_for_urgent(int fd) {
  char b[64];
  usleep(100000); /* the signal ends the sleep of step() */
  SAY(urgent_signals);
  SAY(polled_urgent(fd));
  SAY(is_exceptional(fd));
  SAY(pending_bytes(fd));
  SAY(sockatmark(fd));
  SAY(recv(fd, b, sizeof b, MSG_PEEK));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(sockatmark(fd));
  SAY(pending_bytes(fd));
  SAY(polled_urgent(fd));
  SAY(first_byte(fd, MSG_OOB | MSG_PEEK));
  SAY(first_byte(fd, MSG_OOB));
  SAY(first_byte(fd, MSG_OOB));
  SAY(polled_urgent(fd));
  SAY(sockatmark(fd));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(sockatmark(fd));
  SAY(first_byte(fd, 0));
}

static void R52_urgent(int fd) {
  char b[64];
  int one = 1, epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLPRI | EPOLLET, .data = {.u32 = 7}};
  if (serving) {
    signal(SIGURG, on_urgent_signal);
    SAY(fcntl(fd, F_SETOWN, getpid()));
    SAY(recv(fd, b, 1, MSG_OOB));
    SAY(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    SAY(epoll_wait(epoll, &event, 1, 0));
  }
  step();
  if (serving) {
    look_for_urgent(fd);
    SAY(epoll_wait(epoll, &event, 1, 0));
  } else {
    SAY(send(fd, "abc", 3, 0));
    SAY(send(fd, "d!", 2, MSG_OOB));
    SAY(send(fd, "ef", 2, 0));
  }
  step();
  if (serving) { /* passed over */
    usleep(100000);
    SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
    SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
    SAY(first_byte(fd, MSG_OOB));
  } else {
    SAY(send(fd, "xy!", 3, MSG_OOB));
    SAY(send(fd, "z", 1, 0));
  }
  step();
  if (serving) SAY(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
  step();
  if (serving) { /* in the stream */
    usleep(100000);
    SAY(polled_urgent(fd));
    SAY(first_byte(fd, MSG_OOB));
    SAY(pending_bytes(fd));
    SAY(recv(fd, b, sizeof b, MSG_WAITALL));
    SAY(sockatmark(fd));
    SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
    SAY(polled_urgent(fd));
    SAY(urgent_signals);
  } else {
    SAY(send(fd, "ab", 2, 0));
    SAY(send(fd, "!", 1, MSG_OOB));
    SAY(send(fd, "cd", 2, 0));
  }
  step();
  close(epoll);
}
