/* poll, select and epoll over TCP sockets, pipes and each other. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>

#include "say.h"

static void polls(void) {
  int p[2], q[2];
  char b[4];
  connected_pair(p);
  SAY(pipe(q));
  struct pollfd f[4] = {{p[0], POLLIN | POLLOUT, 0}, {p[1], POLLIN, 0}, {q[0], POLLIN, 0}, {-1, POLLIN, 0}};
  SAY(poll(f, 4, 0));
  SAY(f[0].revents);
  SAY(write(p[0], "a", 1));
  SAY(poll(f, 4, 1000));
  SAY(f[1].revents);
  SAY(write(q[1], "a", 1));
  SAY(poll(f, 4, 1000));
  SAY(read(p[1], b, 4));
  SAY(shutdown(p[0], SHUT_WR));
  f[1].events = POLLIN | POLLRDHUP;
  SAY(poll(f, 4, 1000));
  SAY(f[1].revents);
  SAY(close(p[0]));
  f[0].fd = 999999;
  SAY(poll(f, 2, 0));
  SAY(f[0].revents);
  SAY(poll(NULL, 0, 1));
  SAY(poll((struct pollfd *)8, 1, 1));
  close(p[1]);
  close(q[0]);
  close(q[1]);
}

static void S2_unconnected(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct pollfd f = {fd, POLLIN | POLLOUT, 0};
  SAY(poll(&f, 1, 0));
  SAY(f.revents);
  close(fd);
}

static void selects(void) {
  int p[2];
  fd_set r, w;
  struct timeval t = {0, 20000};
  connected_pair(p);
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(p[1], &r);
  FD_SET(p[0], &w);
  SAY(select(p[1] + 1, &r, &w, NULL, &t));
  SAY(FD_ISSET(p[0], &w) != 0);
  FD_ZERO(&w);
  FD_SET(p[1], &r);
  SAY(select(p[1] + 1, &r, NULL, NULL, &t));
  SAY(FD_ISSET(p[1], &r) != 0);
  SAY(t.tv_sec + t.tv_usec);
  SAY(write(p[0], "x", 1));
  FD_SET(p[1], &r);
  struct timespec s = {1, 0};
  SAY(pselect(p[1] + 1, &r, NULL, NULL, &s, NULL));
  SAY(select(-1, NULL, NULL, NULL, NULL));
  close(p[0]);
  FD_SET(p[0], &r);
  SAY(select(p[0] + 1, &r, NULL, NULL, NULL));
  close(p[1]);
}

static void print_events(int epfd, int timeout) {
  struct epoll_event e[8];
  int n = epoll_wait(epfd, e, 8, timeout);
  printf("%d events:", n);
  for (int i = 0; i < n; i++) printf(" %x/%lld", e[i].events, (long long)e[i].data.u64);
  puts("");
}

static void epolls(void) {
  int p[2], q[2], ep, outer;
  char b[8];
  connected_pair(p);
  SAY(pipe(q));
  SAY_FD(ep, epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = 1};
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
  SAY(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
  SAY(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e));
  SAY(epoll_ctl(ep, 17, p[1], &e));
  e.data.u64 = 2;
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, q[0], &e));
  print_events(ep, 0);
  SAY(write(p[0], "1", 1));
  print_events(ep, 1000);
  print_events(ep, 1000);
  e.events = EPOLLIN | EPOLLET;
  e.data.u64 = 3;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
  print_events(ep, 1000);
  print_events(ep, 0);
  SAY(write(p[0], "2", 1));
  print_events(ep, 1000);
  e.events = EPOLLIN | EPOLLONESHOT;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
  print_events(ep, 1000);
  print_events(ep, 0);
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
  print_events(ep, 1000);
  SAY(read(p[1], b, 8));
  e.events = EPOLLIN;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
  SAY_FD(outer, epoll_create(1));
  e.data.u64 = 9;
  SAY(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e));
  print_events(outer, 0);
  SAY(write(p[0], "3", 1));
  print_events(outer, 1000);
  print_events(ep, 0);
  SAY(epoll_wait(ep, NULL, 0, 0));
  SAY(epoll_wait(p[0], (struct epoll_event *)b, 1, 0));
  SAY(close(p[0]));
  usleep(10000);
  e.events = EPOLLIN | EPOLLRDHUP;
  SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
  print_events(ep, 1000);
  SAY(close(p[1]));
  print_events(ep, 0);
  close(q[0]);
  close(q[1]);
  close(ep);
  close(outer);
}

/* Registered before listen() and before connect(), as event loops do. */
static void registered_early(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  int ep = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct epoll_event e = {.events = EPOLLIN, .data.u64 = 1};
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e));
  print_events(ep, 0);
  bind(listener, (struct sockaddr *)&a, n);
  SAY(listen(listener, 5));
  getsockname(listener, (struct sockaddr *)&a, &n);
  e.events = EPOLLOUT;
  e.data.u64 = 2;
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, client, &e));
  print_events(ep, 0);
  SAY(connect(client, (struct sockaddr *)&a, sizeof a));
  usleep(20000);
  print_events(ep, 1000);
  int peer;
  SAY_FD(peer, accept(listener, NULL, NULL));
  SAY(accept(listener, NULL, NULL));
  print_events(ep, 0);
  close(peer);
  close(client);
  close(listener);
  close(ep);
}

static void on_alarm(int signal) { (void)signal; }

static void S5_interrupted(void) {
  int p[2];
  struct sigaction act = {.sa_handler = on_alarm};
  sigset_t block, none;
  char b[4];
  connected_pair(p);
  sigaction(SIGALRM, &act, NULL);
  struct itimerval in20ms = {.it_value = {0, 20000}};
  setitimer(ITIMER_REAL, &in20ms, NULL);
  SAY(read(p[1], b, 4));
  act.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &act, NULL);
  setitimer(ITIMER_REAL, &in20ms, NULL);
  struct pollfd f = {p[1], POLLIN, 0};
  SAY(poll(&f, 1, 2000));
  sigemptyset(&none);
  sigemptyset(&block);
  sigaddset(&block, SIGALRM);
  sigprocmask(SIG_BLOCK, &block, NULL);
  raise(SIGALRM);
  struct timespec s = {2, 0};
  SAY(ppoll(&f, 1, &s, &none));
  int ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN};
  epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e);
  raise(SIGALRM);
  SAY(epoll_pwait(ep, &e, 1, 2000, &none));
  close(ep);
  close(p[0]);
  close(p[1]);
}

int main(void) {
  polls();
  S2_unconnected();
  selects();
  epolls();
  registered_early();
  S5_interrupted();
  return 0;
}
