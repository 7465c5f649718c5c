/* poll and select in every state of a connection (S2, S7). */
#include "behaviour.h"

enum { EVERYTHING = POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND };

static void say_masks(const char* state, int fd) {
  fd_set r, w, x;
  struct timeval none = {0, 0};
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_ZERO(&x);
  FD_SET(fd, &r);
  FD_SET(fd, &w);
  FD_SET(fd, &x);
  const int ep = epoll_create1(0);
  struct epoll_event e = {.events = EVERYTHING};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  const int n = select(fd + 1, &r, &w, &x, &none);
  const short few = polled(fd, 0, 0), all = polled(fd, EVERYTHING, 0);
  const int m = epoll_wait(ep, &e, 1, 0);
  printf("%s: poll %x, nothing asked %x, select %d r%d w%d x%d, epoll %x\n", state, all, few, n, FD_ISSET(fd, &r) != 0,
         FD_ISSET(fd, &w) != 0, FD_ISSET(fd, &x) != 0, m == 1 ? e.events : 0);
  close(ep);
}

static void sends_and_finishes(int fd) {
  step();
  SAY(write(fd, "abc", 3));
  step();
  step();
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static void S2_masks_when_the_peer_closes(int fd) {
  char b[8];
  if (!serving) {
    sends_and_finishes(fd);
    return;
  }
  say_masks("idle", fd);
  step();
  await_bytes(fd, 3);
  say_masks("data", fd);
  SAY(read(fd, b, 2));
  say_masks("data left", fd);
  SAY(read(fd, b, 2));
  step();
  say_masks("read", fd);
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  say_masks("peer has finished", fd);
  SAY(read(fd, b, 2));
  say_masks("and it was read", fd);
  SAY(shutdown(fd, SHUT_WR));
  await_state(fd, TCP_CLOSE);
  say_masks("both have finished", fd);
  SAY(take_so_error(fd));
  step();
}

static void S2_masks_when_we_close(int fd) {
  char b[8];
  if (!serving) {
    sends_and_finishes(fd);
    return;
  }
  SAY(shutdown(fd, SHUT_WR));
  await_state(fd, TCP_FIN_WAIT2);
  say_masks("we have finished", fd);
  step();
  await_bytes(fd, 3);
  say_masks("and data came", fd);
  step();
  SAY(read(fd, b, 8));
  step();
  for (int i = 0; i < 5000 && !(polled(fd, POLLRDHUP, 1000) & POLLHUP); i++) usleep(200);
  say_masks("both have finished", fd);
  SAY(read(fd, b, 8));
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static void S2_masks_after_shut_rd(int fd) {
  char b[8];
  if (!serving) {
    step();
    SAY(write(fd, "abc", 3));
    step();
    step();
    return;
  }
  SAY(shutdown(fd, SHUT_RD));
  say_masks("shut for reading", fd);
  SAY(read(fd, b, 8));
  step();
  await_bytes(fd, 3);
  say_masks("and data came", fd);
  SAY(read(fd, b, 8));
  SAY(read(fd, b, 8));
  SAY(write(fd, "z", 1));
  step();
  SAY(shutdown(fd, SHUT_WR));
  say_masks("shut for both", fd);
  step();
}

static void S2_masks_after_a_reset(int fd) {
  struct linger now = {1, 0};
  char b[8];
  if (!serving) {
    SAY(write(fd, "abc", 3));
    await_acked(fd);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    SAY(close(fd));
    step();
    return;
  }
  step();
  await_state(fd, TCP_CLOSE);
  say_masks("reset, data unread", fd);
  SAY(read(fd, b, 2));
  say_masks("one read", fd);
  SAY(read(fd, b, 2));
  say_masks("two reads", fd);
  SAY(read(fd, b, 2));
  say_masks("three reads", fd);
  SAY(take_so_error(fd));
  SAY(shutdown(fd, SHUT_RDWR));
  say_masks("shut too", fd);
}

static void S2_poll_of_many(int fd) {
  int ends[2];
  char b[4];
  if (!serving) {
    step();
    SAY(write(fd, "x", 1));
    step();
    return;
  }
  SAY(pipe(ends));
  struct pollfd p[6] = {{fd, POLLIN, 0},  {ends[0], POLLIN, 0}, {-1, POLLIN, 7},
                        {fd, POLLOUT, 0}, {999999, 0, 0},       {-fd, POLLIN, 7}};
  SAY(poll(p, 6, 1000));
  for (int i = 0; i < 6; i++) SAY(p[i].revents);
  p[4].fd = -1;
  p[3].events = POLLPRI;
  const int64_t begin = now_ms();
  SAY(poll(p, 6, 30));
  SAY(now_ms() - begin >= 29);
  SAY(write(ends[1], "p", 1));
  SAY(poll(p, 6, -1));
  for (int i = 0; i < 6; i++) SAY(p[i].revents);
  SAY(read(ends[0], b, 4));
  step();
  SAY(poll(p, 6, -1));
  for (int i = 0; i < 6; i++) SAY(p[i].revents);
  SAY(poll((struct pollfd*)8, 1, 0));
  SAY(poll(NULL, 0, 0));
  SAY(poll(p, 0, 5));
  struct timespec bad = {0, 1000000000}, past = {-1, 0};
  SAY(ppoll(p, 1, &bad, NULL));
  SAY(ppoll(p, 1, &past, NULL));
  close(ends[0]);
  close(ends[1]);
  step();
}

static void put_both(fd_set* set, int a, int b) {
  FD_ZERO(set);
  FD_SET(a, set);
  FD_SET(b, set);
}

static void S2_select_of_many(int fd) {
  int ends[2];
  char b[4];
  fd_set r, w;
  struct timeval t = {1, 0}, bad = {-1, 0}, brief = {0, 30000};
  if (!serving) {
    step();
    SAY(write(fd, "x", 1));
    step();
    return;
  }
  SAY(pipe(ends));
  const int most = (fd > ends[0] ? fd : ends[0]) + 1;
  put_both(&r, fd, ends[0]);
  FD_ZERO(&w);
  FD_SET(fd, &w);
  SAY(select(most, &r, &w, NULL, &t));
  SAY((FD_ISSET(fd, &w) != 0) * 4 + (FD_ISSET(fd, &r) != 0) * 2 + (FD_ISSET(ends[0], &r) != 0));
  put_both(&r, fd, ends[0]);
  FD_ZERO(&w);
  const int64_t begin = now_ms();
  SAY(select(most, &r, &w, NULL, &brief));
  SAY(now_ms() - begin >= 29);
  SAY(brief.tv_sec * 1000000 + brief.tv_usec);
  SAY(FD_ISSET(fd, &r) || FD_ISSET(ends[0], &r));
  SAY(write(ends[1], "p", 1));
  put_both(&r, fd, ends[0]);
  FD_ZERO(&w);
  SAY(select(most, &r, NULL, NULL, NULL));
  SAY((FD_ISSET(fd, &r) != 0) * 2 + (FD_ISSET(ends[0], &r) != 0));
  SAY(read(ends[0], b, 4));
  step();
  put_both(&r, fd, ends[0]);
  FD_ZERO(&w);
  struct timespec s = {2, 0};
  SAY(pselect(most, &r, NULL, NULL, &s, NULL));
  SAY(s.tv_sec); /* not written back */
  SAY((FD_ISSET(fd, &r) != 0) * 2 + (FD_ISSET(ends[0], &r) != 0));
  put_both(&r, fd, ends[0]);
  FD_ZERO(&w);
  SAY(select(most, &r, NULL, NULL, &bad));
  SAY(select(-1, &r, NULL, NULL, &t));
  SAY(select(0, NULL, NULL, NULL, &brief));
  SAY(select(most, (fd_set*)8, NULL, NULL, &t));
  SAY(close(ends[0]));
  SAY(select(most, &r, NULL, NULL, &t));
  close(ends[1]);
  step();
}

static void S7_shutdown_wakes(int fd) {
  struct sleeper in_recv, in_poll, in_poll_too;
  if (!serving) {
    char b[4];
    step();
    SAY(recv(fd, b, 4, 0));
    return;
  }
  sleeper_start(&in_recv, sleeper_recv, fd);
  sleeper_start(&in_poll, sleeper_poll_in, fd);
  sleeper_start(&in_poll_too, sleeper_poll_in, fd);
  SAY(shutdown(fd, SHUT_RDWR));
  sleeper_join("recv", &in_recv);
  sleeper_join("poll", &in_poll);
  sleeper_join("poll", &in_poll_too);
  SAY(shutdown(fd, SHUT_RDWR) == 0 || errno == ENOTCONN); /* as far as the peer's FIN is */
  step();
}

static long send_much(int fd) {
  static char much[1 << 20];
  ssize_t n;
  while ((n = send(fd, much, sizeof much, MSG_NOSIGNAL)) == sizeof much) continue;
  return n < 0 ? n : send(fd, much, sizeof much, MSG_NOSIGNAL);
}

static void S7_shutdown_wakes_send(int fd) {
  struct sleeper sleeper;
  if (serving) {
    step();
    return;
  }
  sleeper_start(&sleeper, send_much, fd);
  SAY(shutdown(fd, SHUT_WR));
  sleeper_join("send", &sleeper);
  step();
}

const struct behaviour polling[] = {{"S2_masks_when_the_peer_closes", S2_masks_when_the_peer_closes, CONNECTED},
                                    {"S2_masks_when_we_close", S2_masks_when_we_close, CONNECTED},
                                    {"S2_masks_after_shut_rd", S2_masks_after_shut_rd, CONNECTED},
                                    {"S2_masks_after_a_reset", S2_masks_after_a_reset, CONNECTED},
                                    {"S2_poll_of_many", S2_poll_of_many, CONNECTED},
                                    {"S2_select_of_many", S2_select_of_many, CONNECTED},
                                    {"S7_shutdown_wakes", S7_shutdown_wakes, CONNECTED},
                                    {"S7_shutdown_wakes_send", S7_shutdown_wakes_send, CONNECTED},
                                    {0}};
