/* Urgent data as Linux has it (R52). */
#include "behaviour.h"

static volatile sig_atomic_t urgent_signals;
static void on_urgent_signal(int number) {
  (void)number;
  urgent_signals++;
}

static int pending_bytes(int fd) {
  int n = -1;
  ioctl(fd, FIONREAD, &n);
  return n;
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
  SAY(urgent_signals);
  SAY(polled(fd, POLLIN | POLLPRI | POLLOUT, 0));
  SAY(is_exceptional(fd));
  SAY(pending_bytes(fd));
  SAY(sockatmark(fd));
  SAY(recv(fd, b, sizeof b, MSG_PEEK));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(sockatmark(fd));
  SAY(pending_bytes(fd));
  SAY(polled(fd, POLLIN | POLLPRI | POLLOUT, 0));
  SAY(first_byte(fd, MSG_OOB | MSG_PEEK));
  SAY(first_byte(fd, MSG_OOB));
  SAY(first_byte(fd, MSG_OOB));
  SAY(polled(fd, POLLIN | POLLPRI | POLLOUT, 0));
  SAY(sockatmark(fd));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(sockatmark(fd));
  SAY(first_byte(fd, 0));
}

/* The client sends this, and has the acknowledgement of all of it before the server looks. */
static void sends(int fd, const char* plain, const char* urgent, const char* after) {
  if (*plain) SAY(send(fd, plain, strlen(plain), 0));
  SAY(send(fd, urgent, strlen(urgent), MSG_OOB));
  SAY(send(fd, after, strlen(after), 0));
  await_acked(fd);
  step();
}

static void R52_urgent_data(int fd) {
  char b[64];
  if (!serving) {
    step();
    sends(fd, "abc", "d!", "ef");
    step();
    return;
  }
  signal(SIGURG, on_urgent_signal);
  SAY(fcntl(fd, F_SETOWN, getpid()));
  SAY(recv(fd, b, 1, MSG_OOB));
  const int ep = epoll_with(fd, EPOLLPRI | EPOLLET, 7);
  say_events("before", ep, 0);
  step();
  step();
  look_for_urgent(fd);
  say_events("after", ep, 0);
  close(ep);
  step();
}

static void R52_urgent_byte_passed_over(int fd) {
  char b[64];
  if (!serving) {
    sends(fd, "", "xy!", "z");
    step();
    return;
  }
  step();
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(first_byte(fd, MSG_OOB));
  step();
}

static void R52_urgent_byte_inline(int fd) {
  char b[64];
  int one = 1;
  if (!serving) {
    step();
    sends(fd, "ab", "!", "cd");
    step();
    return;
  }
  signal(SIGURG, on_urgent_signal);
  SAY(fcntl(fd, F_SETOWN, getpid()));
  urgent_signals = 0;
  SAY(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
  step();
  step();
  SAY(polled(fd, POLLIN | POLLPRI | POLLOUT, 0));
  SAY(first_byte(fd, MSG_OOB));
  SAY(pending_bytes(fd));
  SAY(recv(fd, b, sizeof b, MSG_WAITALL));
  SAY(sockatmark(fd));
  SAY(recv(fd, b, sizeof b, MSG_DONTWAIT));
  SAY(polled(fd, POLLIN | POLLPRI | POLLOUT, 0));
  SAY(urgent_signals);
  step();
}

const struct behaviour urgent[] = {{"R52_urgent_data", R52_urgent_data, CONNECTED},
                                   {"R52_urgent_byte_passed_over", R52_urgent_byte_passed_over, CONNECTED},
                                   {"R52_urgent_byte_inline", R52_urgent_byte_inline, CONNECTED},
                                   {0}};
