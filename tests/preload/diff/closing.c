/* Ends of connections, as the program sees them: resets, lingering, close under a blocked call (S17, R58–R61). */
#include "behaviour.h"

static void R58_close_with_unread_data(int fd) {
  char b[8];
  if (serving) {
    await_bytes(fd, 6);
    SAY(close(fd));
    step();
    step();
    return;
  }
  SAY(write(fd, "unread", 6));
  step();
  await_state(fd, TCP_CLOSE);
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 1000));
  SAY(take_so_error(fd));
  SAY(take_so_error(fd));
  SAY(recv(fd, b, 8, 0));
  SAY(send(fd, b, 8, MSG_NOSIGNAL));
  step();
}

static void R59_linger_of_zero(int fd) {
  struct linger now = {1, 0};
  char b[8];
  if (serving) {
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    SAY(close(fd));
    step();
    step();
    return;
  }
  step();
  await_state(fd, TCP_CLOSE);
  SAY(recv(fd, b, 8, 0));
  SAY(recv(fd, b, 8, 0));
  SAY(send(fd, b, 8, MSG_NOSIGNAL));
  SAY(shutdown(fd, SHUT_RDWR));
  step();
}

static void R59_linger_waits_for_the_peer(int fd) {
  struct linger a_while = {1, 5};
  static char much[1 << 20];
  size_t sent = 0, got = 0;
  ssize_t n;
  if (serving) {
    step();
    while ((n = recv(fd, much, sizeof much, 0)) > 0) got += (size_t)n;
    SAY(n);
    hear(&sent, sizeof sent);
    SAY(got == sent);
    step();
    return;
  }
  SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &a_while, sizeof a_while));
  while ((n = send(fd, much, sizeof much, MSG_DONTWAIT)) > 0) sent += (size_t)n;
  step();
  const int64_t begin = now_ms();
  SAY(close(fd));
  SAY(now_ms() - begin < 4000);
  tell(&sent, sizeof sent);
  step();
}

static void R59_linger_gives_up(int fd) {
  struct linger a_second = {1, 1};
  struct timeval brief = {0, 50000};
  static char much[1 << 20];
  if (serving) {
    step();
    return;
  }
  SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &a_second, sizeof a_second));
  SAY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief));
  while (send(fd, much, sizeof much, 0) > 0) continue; /* until nothing moves any more */
  const int64_t begin = now_ms();
  SAY(close(fd));
  const int64_t took = now_ms() - begin;
  SAY(took >= 950 && took < 3000);
  step();
}

static void R60_half_close(int fd) {
  char b[16];
  if (serving) {
    SAY(recv(fd, b, 16, MSG_WAITALL));
    SAY(recv(fd, b, 16, 0));
    step();
    SAY(write(fd, "answer", 6));
    SAY(shutdown(fd, SHUT_WR));
    SAY(write(fd, "more", 4));
    await_state(fd, TCP_CLOSE);
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  SAY(write(fd, "question", 8));
  SAY(shutdown(fd, SHUT_WR));
  SAY(shutdown(fd, SHUT_WR));
  SAY(shutdown(fd, 3));
  SAY(shutdown(fd, -1));
  step();
  SAY(recv(fd, b, 16, MSG_WAITALL));
  SAY(recv(fd, b, 16, 0));
  SAY(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 1000));
  step();
}

static void close_under(int fd, const char *what, long (*call)(int fd)) {
  struct sleeper sleeper;
  if (!serving) {
    step();
    SAY(write(fd, "late", 4));
    step();
    return;
  }
  sleeper_start(&sleeper, call, fd);
  SAY(close(fd));
  SAY(fcntl(fd, F_GETFD));
  step();
  sleeper_join(what, &sleeper); /* the call keeps the connection */
  step();
}

static void S17_close_while_receiving(int fd) { close_under(fd, "recv", sleeper_recv); }
static void S17_close_while_polling(int fd) { close_under(fd, "poll", sleeper_poll_in); }

static long wait_on_epoll(int ep) {
  struct epoll_event e;
  return epoll_wait(ep, &e, 1, 200);
}

static void S17_close_while_in_epoll(int fd) {
  struct sleeper sleeper;
  if (!serving) {
    step();
    step();
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN, 1);
  sleeper_start(&sleeper, wait_on_epoll, ep);
  SAY(close(fd)); /* leaves the set without a word */
  step();
  sleeper_join("epoll_wait", &sleeper);
  close(ep);
  step();
}

static void S6_last_descriptor_ends_it(int fd) {
  char b[4];
  if (!serving) {
    step();
    SAY(write(fd, "x", 1));
    step();
    SAY(recv(fd, b, 4, 0));
    step();
    return;
  }
  int copy, third;
  SAY_FD(copy, dup(fd));
  SAY_FD(third, fcntl(fd, F_DUPFD_CLOEXEC, 50));
  SAY(third >= 50);
  SAY(fcntl(third, F_GETFD));
  SAY(fcntl(copy, F_SETFL, O_NONBLOCK));
  SAY(recv(fd, b, 1, 0));
  SAY(fcntl(copy, F_SETFL, 0));
  SAY(close(fd));
  SAY(close(fd));
  SAY(recv(fd, b, 1, 0));
  step();
  SAY(recv(copy, b, 4, 0));
  SAY(dup2(third, copy) == copy);
  SAY(dup2(copy, copy) == copy);
  SAY(dup3(copy, copy, 0));
  SAY(dup3(third, copy, 0x1234));
  SAY(dup2(open("/dev/null", O_RDONLY), copy) == copy); /* closes it */
  SAY(close(third));
  SAY(close(copy));
  step();
  step();
}

static void R61_reset_wakes_sleepers(int fd) {
  struct linger now = {1, 0};
  struct sleeper in_poll;
  char b[32];
  if (!serving) {
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    step();
    SAY(close(fd));
    step();
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1);
  say_events("before", ep, 0);
  sleeper_start(&in_poll, sleeper_poll_in, fd);
  step();
  sleeper_join("poll", &in_poll);
  say_events("reset", ep, 1000);
  say_events("reset", ep, 0);
  SAY(take_so_error(fd));
  SAY(getpeername(fd, (struct sockaddr*)b, &(socklen_t){sizeof b}));
  close(ep);
  step();
}

static void R61_reset_ends_recv(int fd) {
  struct linger now = {1, 0};
  struct sleeper in_recv;
  if (!serving) {
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    step();
    SAY(close(fd));
    step();
    return;
  }
  sleeper_start(&in_recv, sleeper_recv, fd);
  step();
  sleeper_join("recv", &in_recv);
  SAY(take_so_error(fd));
  SAY(sleeper_recv(fd));
  step();
}

static void R53_close_delivers(int fd) {
  static char much[300000];
  ssize_t n;
  size_t got = 0;
  if (serving) {
    step();
    while ((n = recv(fd, much, sizeof much, 0)) > 0) got += (size_t)n;
    SAY(n);
    SAY(got);
    return;
  }
  size_t sent = 0;
  while (sent < 100000 && (n = send(fd, much, 100000 - sent, 0)) > 0) sent += (size_t)n;
  SAY(sent);
  SAY(close(fd));
  step();
}

const struct behaviour closing[] = {{"S6_last_descriptor_ends_it", S6_last_descriptor_ends_it, CONNECTED},
                                    {"S17_close_while_receiving", S17_close_while_receiving, CONNECTED},
                                    {"S17_close_while_polling", S17_close_while_polling, CONNECTED},
                                    {"S17_close_while_in_epoll", S17_close_while_in_epoll, CONNECTED},
                                    {"R53_close_delivers", R53_close_delivers, CONNECTED},
                                    {"R58_close_with_unread_data", R58_close_with_unread_data, CONNECTED},
                                    {"R59_linger_of_zero", R59_linger_of_zero, CONNECTED},
                                    {"R59_linger_waits_for_the_peer", R59_linger_waits_for_the_peer, CONNECTED},
                                    {"R59_linger_gives_up", R59_linger_gives_up, CONNECTED},
                                    {"R60_half_close", R60_half_close, CONNECTED},
                                    {"R61_reset_ends_recv", R61_reset_ends_recv, CONNECTED},
                                    {"R61_reset_wakes_sleepers", R61_reset_wakes_sleepers, CONNECTED},
                                    {0}};
