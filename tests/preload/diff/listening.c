/* Listeners: what accept() gives, inherits and is woken by (S7, S11, S12). */
#include "behaviour.h"

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t n = sizeof value;
  return getsockopt(fd, level, name, &value, &n) < 0 ? -errno : value;
}

/* The client's half of most: connects once the server listens on `ports`, lets it look, and goes. */
static void call_once(int ports) {
  step();
  const int s = new_socket(0);
  SAY(connect(s, server_plus(ports), address_bytes));
  note_path(s);
  step();
  step();
  close(s);
}

static void S12_inherits(int unused) {
  const int one = 1, idle = 17, ttl = 33, tos = 0x48, bytes = 70000, ms = 4321;
  struct linger linger = {1, 3};
  struct timeval time = {2, 500000};
  socklen_t n;
  (void)unused;
  if (!serving) {
    call_once(2);
    return;
  }
  const int own = own_listener(2);
  const int is_v4 = server.ss_family == AF_INET;
  SAY(setsockopt(own, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  SAY(setsockopt(own, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
  SAY(setsockopt(own, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
  SAY(setsockopt(own, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms));
  SAY(setsockopt(own, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
  SAY(setsockopt(own, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
  SAY(setsockopt(own, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
  SAY(setsockopt(own, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
  SAY(setsockopt(own, SOL_SOCKET, SO_RCVLOWAT, &idle, sizeof idle));
  SAY(setsockopt(own, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
  SAY(setsockopt(own, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TTL : IPV6_UNICAST_HOPS, &ttl, sizeof ttl));
  SAY(setsockopt(own, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos));
  SAY(fcntl(own, F_SETFL, O_NONBLOCK));
  step();
  SAY(polled(own, POLLIN, 2000));
  const int peer = accept(own, NULL, NULL);
  note_path(peer);
  SAY(option(peer, IPPROTO_TCP, TCP_NODELAY));
  SAY(option(peer, SOL_SOCKET, SO_KEEPALIVE));
  SAY(option(peer, IPPROTO_TCP, TCP_KEEPIDLE));
  SAY(option(peer, IPPROTO_TCP, TCP_USER_TIMEOUT));
  SAY(option(peer, SOL_SOCKET, SO_RCVBUF));
  SAY(option(peer, SOL_SOCKET, SO_SNDBUF));
  SAY(option(peer, SOL_SOCKET, SO_RCVLOWAT));
  SAY(option(peer, SOL_SOCKET, SO_OOBINLINE));
  SAY(option(peer, SOL_SOCKET, SO_REUSEADDR));
  SAY(option(peer, SOL_SOCKET, SO_ACCEPTCONN));
  SAY(option(peer, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TTL : IPV6_UNICAST_HOPS));
  SAY(option(peer, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TOS : IPV6_TCLASS));
  n = sizeof linger;
  memset(&linger, 0, sizeof linger);
  SAY(getsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, &n));
  SAY(linger.l_onoff * 100 + linger.l_linger);
  n = sizeof time;
  memset(&time, 0, sizeof time);
  SAY(getsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &time, &n));
  SAY(time.tv_sec * 1000000 + time.tv_usec);
  SAY(fcntl(peer, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
  SAY(fcntl(peer, F_GETFD));
  step();
  step();
  close(peer);
  close(own);
}

static void S12_peer_has_reset(int unused) {
  struct linger now = {1, 0};
  char b[4];
  (void)unused;
  if (!serving) {
    step();
    const int s = new_socket(0);
    SAY(connect(s, server_plus(2), address_bytes));
    note_path(s);
    step();
    setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    SAY(write(s, "abc", 3));
    await_acked(s);
    SAY(close(s));
    step();
    step();
    return;
  }
  const int own = own_listener(2);
  step();
  SAY(polled(own, POLLIN, 2000));
  step();
  step();
  const int peer = accept(own, NULL, NULL);
  note_path(peer);
  await_state(peer, TCP_CLOSE);
  SAY(polled(peer, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(recv(peer, b, 4, 0));
  SAY(recv(peer, b, 4, 0));
  SAY(recv(peer, b, 4, 0));
  step();
  close(peer);
  close(own);
}

static void S12_peer_has_finished(int unused) {
  char b[8];
  (void)unused;
  if (!serving) {
    step();
    const int s = new_socket(0);
    SAY(connect(s, server_plus(2), address_bytes));
    note_path(s);
    SAY(write(s, "abc", 3));
    SAY(close(s));
    step();
    return;
  }
  const int own = own_listener(2);
  step();
  step();
  const int peer = accept(own, NULL, NULL);
  note_path(peer);
  await_state(peer, TCP_CLOSE_WAIT);
  SAY(polled(peer, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(recv(peer, b, 8, 0));
  SAY(recv(peer, b, 8, 0));
  close(peer);
  close(own);
}

static void S12_addresses(int unused) {
  struct sockaddr_storage a;
  socklen_t n;
  (void)unused;
  if (!serving) {
    for (int i = 0; i < 3; i++) call_once(2);
    return;
  }
  const int own = own_listener(2);
  int peer;
  for (int i = 0; i < 3; i++) {
    step();
    SAY(polled(own, POLLIN, 2000));
    memset(&a, 0x55, sizeof a);
    n = i == 0 ? sizeof a : i == 1 ? 3 : 0;
    SAY_FD(peer, accept4(own, (struct sockaddr*)&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC));
    SAY((int)n);
    if (i == 0) SAY(a.ss_family);
    if (i == 1) SAY(((unsigned char*)&a)[3]);
    note_path(peer);
    SAY(fcntl(peer, F_GETFL) & O_NONBLOCK);
    SAY(fcntl(peer, F_GETFD));
    step();
    step();
    close(peer);
  }
  SAY(accept4(own, NULL, NULL, 1));
  close(own);
}

static void S7_shutdown_wakes_accept(int unused) {
  struct sleeper sleeper;
  (void)unused;
  if (!serving) {
    call_once(2);
    return;
  }
  const int own = own_listener(2), ep = epoll_with(own, EPOLLIN, 1);
  sleeper_start(&sleeper, sleeper_accept, own);
  SAY(shutdown(own, SHUT_WR));
  SAY(polled(own, POLLIN | POLLOUT | POLLRDHUP, 0));
  SAY(shutdown(own, SHUT_RDWR));
  sleeper_join("accept", &sleeper);
  SAY(polled(own, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_events("shut", ep, 0);
  SAY(accept(own, NULL, NULL));
  SAY(listen(own, 8));
  SAY(polled(own, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_events("listens again", ep, 0);
  step();
  int peer;
  SAY_FD(peer, accept(own, NULL, NULL));
  note_path(peer);
  step();
  step();
  close(peer);
  close(own);
  close(ep);
}

static void S3_listener_in_epoll(int unused) {
  (void)unused;
  if (!serving) {
    call_once(2);
    return;
  }
  const int own = own_listener(2), ep = epoll_with(own, EPOLLIN, 9), edge = epoll_with(own, EPOLLIN | EPOLLET, 8);
  SAY(fcntl(own, F_SETFL, O_NONBLOCK));
  SAY(fcntl(own, F_GETFL) & O_NONBLOCK);
  SAY(accept(own, NULL, NULL));
  say_events("listener", ep, 0);
  step();
  say_events("listener", ep, 2000);
  say_events("listener", ep, 2000);
  say_events("edge", edge, 2000);
  say_events("edge", edge, 0);
  SAY(polled(own, POLLIN | POLLOUT, 0));
  int peer;
  SAY_FD(peer, accept4(own, NULL, NULL, SOCK_NONBLOCK));
  note_path(peer);
  say_events("listener", ep, 0);
  SAY(accept(own, NULL, NULL));
  SAY(fcntl(own, F_SETFL, 0));
  SAY(fcntl(own, F_GETFL) & O_NONBLOCK);
  step();
  step();
  close(peer);
  close(ep);
  close(edge);
  close(own);
}

static void S9_accept_times_out(int unused) {
  struct timeval t = {0, 60000};
  (void)unused;
  if (!serving) return;
  const int own = own_listener(2);
  SAY(setsockopt(own, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  const int64_t begin = now_ms();
  SAY(accept(own, NULL, NULL));
  note_path(own);
  SAY(now_ms() - begin >= 55);
  close(own);
}

static long accepts(int fd) { return sleeper_accept(fd); }

static void calls_now(int unused) {
  char b = 'c';
  (void)unused;
  tell(&b, 1);
}

static void S5_accept_interrupted(int unused) {
  (void)unused;
  if (!serving) {
    char b;
    step();
    hear(&b, 1);
    const int s = new_socket(0);
    SAY(connect(s, server_plus(2), address_bytes));
    note_path(s);
    step();
    close(s);
    return;
  }
  const int own = own_listener(2);
  step();
  note_path(own);
  SAY(interrupted(0, accepts, own, NULL));
  SAY(interrupted(1, accepts, own, calls_now));
  step();
  close(own);
}

static int bound(int ports, int option_name) {
  const int fd = new_socket(0), one = 1;
  if (option_name) setsockopt(fd, SOL_SOCKET, option_name, &one, sizeof one);
  SAY(bind(fd, server_plus(ports), address_bytes));
  return fd;
}

static void S11_bind_conflicts(int fd) {
  struct sockaddr_storage a, foreign = silent;
  socklen_t n = sizeof a;
  if (!serving) {
    step();
    return;
  }
  const int first = bound(4, 0), second = bound(4, 0), third = bound(4, SO_REUSEADDR);
  SAY(bind(first, server_plus(5), address_bytes));
  SAY(bind(fd, server_plus(5), address_bytes));
  close(first);
  const int fourth = bound(4, SO_REUSEADDR), fifth = bound(4, SO_REUSEADDR);
  SAY(listen(fourth, 1));
  SAY(listen(fifth, 1));
  polled(fourth, POLLIN, 0);
  const int sixth = bound(4, SO_REUSEADDR);
  const int seventh = bound(6, SO_REUSEPORT), eighth = bound(6, SO_REUSEPORT), ninth = bound(6, 0);
  SAY(listen(seventh, 1));
  SAY(listen(eighth, 1));
  SAY(bound(0, 0) >= 0); /* of a listener with connections */
  const int any = new_socket(0);
  memset(&a, 0, sizeof a);
  a.ss_family = server.ss_family;
  SAY(bind(any, (struct sockaddr*)&a, address_bytes));
  SAY(getsockname(any, (struct sockaddr*)&a, &n));
  SAY(((struct sockaddr_in*)&a)->sin_port != 0);
  ((struct sockaddr_in*)&foreign)->sin_port = 0;
  const int elsewhere = new_socket(0);
  SAY(bind(elsewhere, (struct sockaddr*)&foreign, address_bytes));
  SAY(bind(elsewhere, (struct sockaddr*)&server, 5));
  const int all[] = {second, third, fourth, fifth, sixth, seventh, eighth, ninth, any, elsewhere};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) close(all[i]);
  step();
}

/* A port whose connection is in TIME-WAIT may be listened on again with SO_REUSEADDR. */
static void S11_time_wait(int unused) {
  char b[2];
  (void)unused;
  if (!serving) {
    step();
    const int s = new_socket(0);
    SAY(connect(s, server_plus(7), address_bytes));
    note_path(s);
    SAY(recv(s, b, 2, 0));
    SAY(close(s));
    step();
    return;
  }
  const int own = own_listener(7);
  step();
  const int peer = accept(own, NULL, NULL);
  note_path(peer);
  SAY(shutdown(peer, SHUT_WR));
  SAY(recv(peer, b, 2, 0));
  step();
  SAY(close(peer));
  SAY(close(own));
  const int again = bound(7, SO_REUSEADDR);
  SAY(listen(again, 1));
  close(again);
}

const struct behaviour listening[] = {{"S3_listener_in_epoll", S3_listener_in_epoll, OWN_SOCKETS},
                                      {"S5_accept_interrupted", S5_accept_interrupted, OWN_SOCKETS},
                                      {"S7_shutdown_wakes_accept", S7_shutdown_wakes_accept, OWN_SOCKETS},
                                      {"S9_accept_times_out", S9_accept_times_out, OWN_SOCKETS},
                                      {"S11_bind_conflicts", S11_bind_conflicts, CONNECTED},
                                      {"S11_time_wait", S11_time_wait, OWN_SOCKETS},
                                      {"S12_inherits", S12_inherits, OWN_SOCKETS},
                                      {"S12_peer_has_reset", S12_peer_has_reset, OWN_SOCKETS},
                                      {"S12_peer_has_finished", S12_peer_has_finished, OWN_SOCKETS},
                                      {"S12_addresses", S12_addresses, OWN_SOCKETS},
                                      {0}};
