/* An echo server and its client on tto.h: what a service written for libtto looks like. The calls are those of the
 * sockets API with a prefix; where there is no ttod, they are served by the kernel.
 *
 *   cc echo.c $(pkg-config --cflags --libs libtto) -o echo
 *   ./echo serve ADDRESS PORT [CONNECTIONS]     echoes until that many connections have ended (0: for ever)
 *   ./echo call ADDRESS PORT [ROUNDS]           sends 64 bytes and waits for them, ROUNDS times
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tto/tto.h>

#define MAX_EVENTS 64

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address_of(const char *ip, const char *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
    fprintf(stderr, "not an IPv4 address: %s\n", ip);
    exit(2);
  }
  return a;
}

/* Sends all of it; a socket that is full for now is waited for. */
static int send_all(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t n = tto_send(fd, bytes, count, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      struct pollfd p = {.fd = fd, .events = POLLOUT};
      tto_poll(&p, 1, -1);
      continue;
    }
    if (n < 0) return -1;
    bytes += n;
    count -= (size_t)n;
  }
  return 0;
}

/* Echoes what is there; false once the peer is done or gone. */
static int echo(int fd) {
  char buffer[65536];
  for (;;) {
    ssize_t n = tto_recv(fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0 || send_all(fd, buffer, (size_t)n) < 0) return 0;
  }
}

static void serve(struct sockaddr_in a, int connections) {
  int one = 1, ended = 0;
  int listener = tto_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int epfd = tto_epoll_create1(0);
  tto_setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (tto_bind(listener, (struct sockaddr *)&a, sizeof a) < 0) die("bind");
  if (tto_listen(listener, 128) < 0) die("listen");
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (tto_epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
  printf("serving\n");
  fflush(stdout);
  while (connections == 0 || ended < connections) {
    struct epoll_event events[MAX_EVENTS];
    int n = tto_epoll_wait(epfd, events, MAX_EVENTS, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        while ((fd = tto_accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          struct epoll_event add = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
          tto_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          if (tto_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &add) < 0) die("epoll_ctl");
        }
      } else if (!echo(fd)) {
        tto_close(fd);
        ended++;
      }
    }
  }
  tto_close(epfd);
  tto_close(listener);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void call(struct sockaddr_in a, int rounds) {
  char out[64], in[64];
  const char *reason;
  int one = 1, fd = tto_socket(AF_INET, SOCK_STREAM, 0);
  if (tto_connect(fd, (struct sockaddr *)&a, sizeof a) < 0) die("connect");
  tto_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  double begin = seconds();
  for (int i = 0; i < rounds; i++) {
    memset(out, 'a' + i % 26, sizeof out);
    if (send_all(fd, out, sizeof out) < 0) die("send");
    if (tto_recv(fd, in, sizeof in, MSG_WAITALL) != sizeof in || memcmp(in, out, sizeof in) != 0) die("echo differs");
  }
  enum tto_path path = tto_path_of(fd, &reason);
  printf("%d rounds, %.1f us each, on %s%s%s\n", rounds, (seconds() - begin) / rounds * 1e6,
         path == TTO_PATH_AF_XDP ? "AF_XDP" : "the kernel", reason != NULL ? ": " : "", reason != NULL ? reason : "");
  tto_close(fd);
}

int main(int argc, char **argv) {
  if (argc >= 4 && strcmp(argv[1], "serve") == 0) {
    serve(address_of(argv[2], argv[3]), argc > 4 ? atoi(argv[4]) : 0);
  } else if (argc >= 4 && strcmp(argv[1], "call") == 0) {
    call(address_of(argv[2], argv[3]), argc > 4 ? atoi(argv[4]) : 10000);
  } else {
    fprintf(stderr, "usage: %s serve|call ADDRESS PORT [COUNT]   (%s)\n", argv[0], tto_version());
    return 2;
  }
  return 0;
}
