/* connect() in all its states: S1, S2, and what interrupts it. */
#include "behaviour.h"

static struct sockaddr* to_server(void) { return (struct sockaddr*)&server; }
static struct sockaddr* to_silence(void) { return (struct sockaddr*)&silent; }

static void accept_and_drop(void) {
  const int peer = accept(listener, NULL, NULL);
  step();
  close(peer);
}

static void S1_refused(int unused) {
  (void)unused;
  if (serving) return;
  const int s = new_socket(SOCK_NONBLOCK);
  SAY(connect(s, server_plus(900), address_bytes));
  note_path(s);
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP, 3000));
  SAY(take_so_error(s));
  SAY(take_so_error(s));
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(fcntl(s, F_SETFL, 0));
  SAY(connect(s, server_plus(900), address_bytes));
  SAY(take_so_error(s));
  SAY(send(s, "x", 1, MSG_NOSIGNAL));
  SAY(recv(s, NULL, 0, 0));
  SAY(close(s));
}

static void S1_refused_connects_again(int unused) {
  (void)unused;
  if (serving) {
    const int own = own_listener(1);
    step();
    const int peer = accept(own, NULL, NULL);
    note_path(peer);
    SAY(write(peer, "hi", 2));
    step();
    close(peer);
    close(own);
    return;
  }
  char b[4];
  const int s = new_socket(0);
  SAY(connect(s, server_plus(900), address_bytes));
  step();
  SAY(connect(s, server_plus(1), address_bytes));
  note_path(s);
  SAY(recv(s, b, 2, MSG_WAITALL));
  SAY(connect(s, server_plus(1), address_bytes));
  step();
  close(s);
}

static void S1_error_comes_by_connect(int unused) {
  (void)unused;
  if (serving) return;
  const int s = new_socket(SOCK_NONBLOCK);
  SAY(connect(s, server_plus(900), address_bytes));
  note_path(s);
  SAY(polled(s, POLLOUT, 3000));
  SAY(connect(s, server_plus(900), address_bytes));
  SAY(take_so_error(s));
  close(s);
}

static void S1_in_progress(int unused) {
  char b[4];
  struct sockaddr_storage a;
  socklen_t n = sizeof a;
  (void)unused;
  if (serving) return;
  const int s = new_socket(SOCK_NONBLOCK);
  SAY(connect(s, to_silence(), address_bytes));
  note_path(s);
  SAY(connect(s, to_silence(), address_bytes));
  SAY(connect(s, to_server(), address_bytes));
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0));
  SAY(take_so_error(s));
  SAY(recv(s, b, 4, 0));
  SAY(send(s, b, 4, 0));
  SAY(getpeername(s, (struct sockaddr*)&a, &n));
  SAY(getsockname(s, (struct sockaddr*)&a, &n));
  SAY(((struct sockaddr_in*)&a)->sin_port != 0);
  SAY(listen(s, 1));
  SAY(accept(s, NULL, NULL));
  SAY(bind(s, (struct sockaddr*)&a, n));
  SAY(shutdown(s, SHUT_WR));
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(take_so_error(s));
  SAY(close(s));
}

static long connect_to_silence(int fd) { return connect(fd, to_silence(), address_bytes); }

static void S7_shutdown_wakes_connect(int unused) {
  struct sleeper sleeper;
  (void)unused;
  if (serving) return;
  const int s = new_socket(0);
  sleeper_start(&sleeper, connect_to_silence, s);
  note_path(s);
  SAY(shutdown(s, SHUT_RDWR));
  sleeper_join("connect", &sleeper);
  SAY(take_so_error(s));
  close(s);
}

static void S5_connect_interrupted(int unused) {
  (void)unused;
  if (serving) return;
  const int s = new_socket(0);
  SAY(interrupted(0, connect_to_silence, s, NULL));
  note_path(s);
  SAY(fcntl(s, F_SETFL, O_NONBLOCK));
  SAY(connect(s, to_silence(), address_bytes));
  SAY(polled(s, POLLOUT, 0));
  close(s);
}

static void S9_connect_times_out(int unused) {
  struct timeval t = {0, 60000};
  (void)unused;
  if (serving) return;
  const int s = new_socket(0);
  SAY(setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
  const int64_t begin = now_ms();
  SAY(connect(s, to_silence(), address_bytes));
  note_path(s);
  SAY(now_ms() - begin >= 55);
  SAY(connect(s, to_silence(), address_bytes));
  close(s);
}

static void S1_user_timeout(int unused) {
  int ms = 300;
  (void)unused;
  if (serving) return;
  const int s = new_socket(0);
  SAY(setsockopt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms));
  SAY(fcntl(s, F_SETFL, O_NONBLOCK));
  SAY(connect(s, to_silence(), address_bytes));
  note_path(s);
  SAY(polled(s, POLLIN | POLLOUT, 3000));
  SAY(take_so_error(s));
  SAY(polled(s, POLLIN | POLLOUT, 0));
  close(s);
}

static void S1_is_connected(int fd) {
  struct sockaddr_storage a = server;
  SAY(connect(fd, to_server(), address_bytes));
  SAY(connect(fd, to_silence(), address_bytes));
  SAY(connect(fd, to_server(), 3));
  SAY(connect(fd, to_server(), 0));
  SAY(connect(fd, (struct sockaddr*)8, address_bytes));
  SAY(connect(fd, to_server(), (socklen_t)-1));
  a.ss_family = AF_UNIX;
  SAY(connect(fd, (struct sockaddr*)&a, address_bytes));
  SAY(listen(fd, 1));
  SAY(accept(fd, NULL, NULL));
  if (serving) SAY(bind(fd, to_server(), address_bytes));
  step();
}

static void S1_bad_addresses(int unused) {
  struct sockaddr_storage a = server;
  (void)unused;
  if (serving) {
    accept_and_drop();
    return;
  }
  const int s = new_socket(0);
  SAY(connect(s, to_server(), 3));
  SAY(connect(s, to_server(), 0));
  SAY(connect(s, (struct sockaddr*)8, address_bytes));
  a.ss_family = AF_UNIX;
  SAY(connect(s, (struct sockaddr*)&a, address_bytes));
  a.ss_family = server.ss_family == AF_INET ? AF_INET6 : AF_INET;
  SAY(connect(s, (struct sockaddr*)&a, sizeof(struct sockaddr_in)));
  SAY(connect(s, to_server(), address_bytes)); /* the socket is as good as before */
  note_path(s);
  step();
  close(s);
}

static void S1_epoll_before_connect(int unused) {
  (void)unused;
  if (serving) {
    step();
    const int peer = accept(listener, NULL, NULL);
    note_path(peer);
    SAY(write(peer, "hi", 2));
    step();
    close(peer);
    return;
  }
  char b[8];
  const int s = new_socket(SOCK_NONBLOCK), ep = epoll_with(s, EPOLLOUT | EPOLLIN, 7);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = 8};
  say_events("unconnected", ep, 0);
  SAY(connect(s, to_server(), address_bytes));
  note_path(s);
  step();
  await_bytes(s, 2);
  say_events("connected", ep, 2000);
  SAY(connect(s, to_server(), address_bytes));
  SAY(connect(s, to_server(), address_bytes));
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
  say_events("readable", ep, 2000);
  SAY(recv(s, b, 8, 0));
  step();
  close(s);
  close(ep);
}

static void S2_unconnected(int unused) {
  char b[4];
  (void)unused;
  if (serving) {
    accept_and_drop();
    return;
  }
  const int s = new_socket(0), ep = epoll_with(s, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0));
  say_events("unconnected", ep, 0);
  SAY(recv(s, b, 4, 0));
  SAY(send(s, b, 4, MSG_NOSIGNAL));
  SAY(shutdown(s, SHUT_RDWR));
  SAY(polled(s, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(connect(s, to_server(), address_bytes)); /* shutdown() was not forgotten */
  SAY(send(s, b, 4, MSG_NOSIGNAL));
  step();
  close(ep);
  close(s);
}

static void S11_connects_from_a_port(int unused) {
  struct sockaddr_storage mine;
  socklen_t n = sizeof mine;
  const int one = 1;
  (void)unused;
  if (serving) {
    for (int i = 0; i < 2; i++) {
      const int peer = accept(listener, NULL, NULL);
      note_path(peer);
      SAY(getpeername(peer, (struct sockaddr*)&mine, &n));
      const int ports = ntohs(((struct sockaddr_in*)&mine)->sin_port) - ntohs(((struct sockaddr_in*)&server)->sin_port);
      if (i == 0) SAY(ports);
      step();
      close(peer);
    }
    return;
  }
  const int s = new_socket(0), t = new_socket(0), u = new_socket(0);
  memset(&mine, 0, sizeof mine);
  mine.ss_family = server.ss_family;
  ((struct sockaddr_in*)&mine)->sin_port = ((struct sockaddr_in*)server_plus(3))->sin_port;
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(t, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  SAY(bind(s, (struct sockaddr*)&mine, address_bytes));
  SAY(connect(s, to_server(), address_bytes));
  note_path(s);
  SAY(bind(t, (struct sockaddr*)&mine, address_bytes));
  SAY(connect(t, to_server(), address_bytes)); /* the tuple is taken */
  SAY(connect(u, to_server(), address_bytes));
  step();
  step();
  close(s);
  close(t);
  close(u);
}

const struct behaviour connecting[] = {{"S1_refused", S1_refused, OWN_SOCKETS},
                                       {"S1_refused_connects_again", S1_refused_connects_again, OWN_SOCKETS},
                                       {"S1_error_comes_by_connect", S1_error_comes_by_connect, OWN_SOCKETS},
                                       {"S1_in_progress", S1_in_progress, OWN_SOCKETS},
                                       {"S1_user_timeout", S1_user_timeout, OWN_SOCKETS},
                                       {"S1_is_connected", S1_is_connected, CONNECTED},
                                       {"S1_bad_addresses", S1_bad_addresses, OWN_SOCKETS},
                                       {"S1_epoll_before_connect", S1_epoll_before_connect, OWN_SOCKETS},
                                       {"S2_unconnected", S2_unconnected, OWN_SOCKETS},
                                       {"S5_connect_interrupted", S5_connect_interrupted, OWN_SOCKETS},
                                       {"S7_shutdown_wakes_connect", S7_shutdown_wakes_connect, OWN_SOCKETS},
                                       {"S9_connect_times_out", S9_connect_times_out, OWN_SOCKETS},
                                       {"S11_connects_from_a_port", S11_connects_from_a_port, OWN_SOCKETS},
                                       {0}};
