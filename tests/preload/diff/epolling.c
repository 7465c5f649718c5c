/* epoll: triggers, nesting, errors, descriptors that come and go (S3, S4, S6). */
#include "behaviour.h"

/* The client's half of most: a byte a step. */
static void sends_bytes(int fd, int steps) {
  for (int i = 0; i < steps; i++) {
    step();
    SAY(write(fd, "x", 1));
    await_acked(fd);
    step();
  }
}

static void byte_comes(int fd, int bytes_then) {
  step();
  step();
  await_bytes(fd, bytes_then);
}

static void S3_level(int fd) {
  char b[8];
  if (!serving) {
    sends_bytes(fd, 2);
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN | EPOLLRDHUP, 1);
  say_events("idle", ep, 0);
  byte_comes(fd, 1);
  say_events("data", ep, 1000);
  say_events("data", ep, 1000);
  byte_comes(fd, 2);
  say_events("more", ep, 1000);
  SAY(read(fd, b, 1));
  say_events("left", ep, 1000);
  SAY(read(fd, b, 8));
  say_events("read", ep, 0);
  step();
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  say_events("end", ep, 1000);
  SAY(read(fd, b, 8));
  say_events("end", ep, 1000);
  SAY(close(fd));
  say_events("closed", ep, 0);
  close(ep);
}

static void S3_edge(int fd) {
  char b[8];
  if (!serving) {
    sends_bytes(fd, 3);
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 3);
  struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = 4};
  say_events("added", ep, 0);
  say_events("again", ep, 0);
  byte_comes(fd, 1);
  say_events("data", ep, 1000);
  say_events("unread", ep, 0);
  byte_comes(fd, 2);
  say_events("more, the old unread", ep, 1000);
  SAY(read(fd, b, 1));
  say_events("left", ep, 0);
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
  say_events("modified", ep, 0);
  say_events("again", ep, 0);
  SAY(read(fd, b, 8));
  byte_comes(fd, 1);
  say_events("data", ep, 1000);
  step();
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  say_events("end", ep, 1000);
  say_events("again", ep, 0);
  close(ep);
}

static void S3_oneshot(int fd) {
  if (!serving) {
    sends_bytes(fd, 2);
    return;
  }
  struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 5};
  const int ep = epoll_with(fd, EPOLLIN | EPOLLONESHOT, 4);
  byte_comes(fd, 1);
  say_events("data", ep, 1000);
  say_events("disarmed", ep, 0);
  byte_comes(fd, 2);
  say_events("disarmed", ep, 0);
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
  say_events("armed, ready already", ep, 1000);
  say_events("disarmed", ep, 0);
  close(ep);
}

static long wait_on_epoll(int ep) {
  struct epoll_event e;
  return epoll_wait(ep, &e, 1, 3000);
}

static void S3_exclusive(int fd) {
  struct sleeper first, second;
  if (!serving) {
    sends_bytes(fd, 1);
    return;
  }
  const int one = epoll_with(fd, EPOLLIN | EPOLLEXCLUSIVE, 1), two = epoll_with(fd, EPOLLIN | EPOLLEXCLUSIVE, 2);
  struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
  SAY(epoll_ctl(one, EPOLL_CTL_MOD, fd, &e));
  e.events = EPOLLIN;
  SAY(epoll_ctl(one, EPOLL_CTL_MOD, fd, &e));
  const int three = epoll_with(fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 3);
  sleeper_start(&first, wait_on_epoll, one);
  sleeper_start(&second, wait_on_epoll, two);
  byte_comes(fd, 1);
  /* At least one is woken by the byte; whoever was not finds it when told of anything else. */
  pthread_join(first.handle, NULL);
  pthread_join(second.handle, NULL);
  SAY(first.result + second.result >= 1);
  close(one);
  close(two);
  close(three);
}

static void S3_waiting_threads_and_late_sockets(int fd) {
  struct sleeper sleeper;
  if (!serving) {
    sends_bytes(fd, 1);
    return;
  }
  const int ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = 1};
  sleeper_start(&sleeper, wait_on_epoll, ep);
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)); /* while the thread sleeps in an empty set */
  byte_comes(fd, 1);
  sleeper_join("epoll_wait", &sleeper);
  close(ep);
}

static void S4_nested(int fd) {
  char b[4];
  if (!serving) {
    sends_bytes(fd, 2);
    return;
  }
  const int inner = epoll_with(fd, EPOLLIN, 1), outer = epoll_with(inner, EPOLLIN, 2),
            edge = epoll_with(inner, EPOLLIN | EPOLLET, 3);
  fd_set r;
  struct timeval none = {0, 0};
  say_events("outer", outer, 0);
  SAY(polled(inner, POLLIN | POLLOUT, 0));
  byte_comes(fd, 1);
  say_events("outer", outer, 1000);
  say_events("edge", edge, 1000);
  say_events("edge", edge, 0);
  SAY(polled(inner, POLLIN | POLLOUT, 1000));
  SAY(polled(outer, POLLIN, 1000));
  FD_ZERO(&r);
  FD_SET(outer, &r);
  SAY(select(outer + 1, &r, NULL, NULL, &none));
  say_events("inner", inner, 0);
  SAY(read(fd, b, 4));
  say_events("outer", outer, 0);
  SAY(polled(outer, POLLIN, 0));
  byte_comes(fd, 1);
  say_events("edge", edge, 1000);
  close(inner);
  say_events("outer", outer, 0);
  close(outer);
  close(edge);
}

static void S4_loops(int fd) {
  const int a = epoll_with(fd, EPOLLIN, 1), b = epoll_with(a, EPOLLIN, 2);
  struct epoll_event e = {.events = EPOLLIN};
  SAY(epoll_ctl(a, EPOLL_CTL_ADD, b, &e));
  SAY(epoll_ctl(a, EPOLL_CTL_ADD, a, &e));
  int chain[8] = {b};
  for (int i = 1; i < 6; i++) chain[i] = epoll_with(chain[i - 1], EPOLLIN, 3);
  for (int i = 0; i < 6; i++) close(chain[i]);
  close(a);
}

static void S6_dup_close_and_reuse(int fd) {
  char b[4];
  if (!serving) {
    sends_bytes(fd, 2);
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN, 1), copy = dup(fd);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = 2};
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &e));
  byte_comes(fd, 1);
  say_events("both", ep, 1000);
  const int third = dup(fd);
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, third, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, third, NULL));
  SAY(close(copy));
  say_events("a closed one still counts", ep, 1000);
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, copy, NULL));
  SAY(dup2(third, copy) == copy); /* its number is back, on the same socket */
  e.data.u32 = 3;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, copy, &e));
  say_events("found again", ep, 1000);
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, copy, NULL));
  say_events("one left", ep, 1000);
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
  say_events("none", ep, 0);
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, third, &e));
  SAY(close(copy));
  say_events("third", ep, 1000);
  SAY(read(third, b, 4));
  byte_comes(third, 1);
  say_events("third", ep, 1000);
  SAY(close(third));
  close(ep);
}

static void S6_errors(int fd) {
  struct epoll_event e = {.events = EPOLLIN}, *bad = (struct epoll_event*)8;
  const int ep = epoll_create1(0), file = open("/proc/self/stat", O_RDONLY);
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, bad));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, NULL));
  SAY(epoll_ctl(ep, 0, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(ep, 77, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, fd, bad));
  SAY(epoll_ctl(fd, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(fd, EPOLL_CTL_ADD, ep, &e));
  SAY(epoll_ctl(-1, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(file, EPOLL_CTL_ADD, fd, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, file, &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, 999999, &e));
  SAY(epoll_ctl(999999, EPOLL_CTL_DEL, fd, &e));
  SAY(epoll_wait(fd, &e, 1, 0));
  SAY(epoll_wait(ep, &e, 0, 0));
  SAY(epoll_wait(ep, &e, -1, 0));
  SAY(epoll_wait(-1, &e, 1, 0));
  SAY(epoll_wait(ep, &e, 1, 0));
  struct timespec wrong = {0, -1}, brief = {0, 1000000};
  SAY(epoll_pwait2(ep, &e, 1, &wrong, NULL));
  SAY(epoll_pwait2(ep, &e, 1, &brief, NULL));
  SAY(close(ep));
  SAY(epoll_wait(ep, &e, 1, 0));
  close(file);
}

static void S3_more_events_than_room(int fd) {
  if (!serving) {
    sends_bytes(fd, 1);
    return;
  }
  int copies[4], ep = epoll_create1(0), seen = 0;
  struct epoll_event e = {.events = EPOLLIN};
  for (int i = 0; i < 4; i++) {
    copies[i] = dup(fd);
    e.data.u32 = 1u << i;
    epoll_ctl(ep, EPOLL_CTL_ADD, copies[i], &e);
  }
  byte_comes(fd, 1);
  for (int i = 0; i < 4; i++) {
    SAY(epoll_wait(ep, &e, 1, 1000));
    seen |= (int)e.data.u32;
  }
  SAY(seen); /* in turns: none starves */
  for (int i = 0; i < 4; i++) close(copies[i]);
  close(ep);
}

const struct behaviour epolling[] = {
    {"S3_level", S3_level, CONNECTED},
    {"S3_edge", S3_edge, CONNECTED},
    {"S3_oneshot", S3_oneshot, CONNECTED},
    {"S3_exclusive", S3_exclusive, CONNECTED},
    {"S3_waiting_threads_and_late_sockets", S3_waiting_threads_and_late_sockets, CONNECTED},
    {"S3_more_events_than_room", S3_more_events_than_room, CONNECTED},
    {"S4_nested", S4_nested, CONNECTED},
    {"S4_loops", S4_loops, CONNECTED},
    {"S6_dup_close_and_reuse", S6_dup_close_and_reuse, CONNECTED},
    {"S6_errors", S6_errors, CONNECTED},
    {0}};
