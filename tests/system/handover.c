/* Two ends of many connections, one after the other, each with a known pattern both ways, every byte checked; somewhere in
 * the middle an end does something that only the kernel can serve, or becomes two processes, or another program, or ends.
 *
 *   handover serve ADDRESS PORT COUNT TRIGGER SEED
 *   handover call ADDRESS PORT COUNT TRIGGER SEED BYTES-OUT BYTES-IN
 *
 * Prints a line for each connection that went wrong, and at the end "done" with how many went well. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct Stream {
  int fd;
  uint64_t out_total, in_total; /* to be sent, to be received */
  uint64_t out, in;
  uint64_t trigger_at; /* of out + in; ~0: done or never */
  int is_shut;
  int epoll; /* -1: poll */
};

static const char *g_trigger = "none";
static uint64_t g_random;

static double g_longest; /* seconds that a connection took */

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random_number(void) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 7;
  g_random ^= g_random << 17;
  return g_random;
}

static uint8_t pattern(uint64_t position) { return (uint8_t)((position * 0x9e3779b97f4a7c15u) >> 56); }

static int fail(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  fflush(stdout);
  return -1;
}

static int is_trigger(const char *name) { return strcmp(g_trigger, name) == 0; }

/* --- triggers ------------------------------------------------------------------------------------------------------ */

/* The descriptor goes through a Unix socket and comes back as another. */
static int pass(struct Stream *s) {
  int pair[2], received = -1;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return fail("socketpair");
  char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec piece = {&byte, 1};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &s->fd, sizeof(int));
  if (sendmsg(pair[0], &message, 0) != 1) return fail("sendmsg");
  close(s->fd);
  if (recvmsg(pair[1], &message, 0) != 1) return fail("recvmsg");
  memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
  close(pair[0]);
  close(pair[1]);
  s->fd = received;
  return 0;
}

static int become_another_program(const struct Stream *s, char **argv) {
  char numbers[7][24];
  const uint64_t values[7] = {(uint64_t)s->fd, s->out_total, s->in_total, s->out, s->in, (uint64_t)s->is_shut, 0};
  for (int i = 0; i < 7; ++i) snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, values[i]);
  char *again[] = {argv[0], "resume", numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], NULL};
  execv("/proc/self/exe", again);
  return fail("exec");
}

static int run(struct Stream *s, char **argv);

/* A child goes on, the parent waits, with its descriptor open or closed. */
static int child_goes_on(struct Stream *s, char **argv, int parent_closes, int execs) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) return fail("fork");
  if (child == 0) {
    if (execs) _exit(become_another_program(s, argv) == 0 ? 0 : 1);
    const int result = run(s, argv);
    fflush(stdout);
    _exit(result == 0 ? 0 : 1);
  }
  if (parent_closes) close(s->fd);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (parent_closes) s->fd = -1;
  s->in = s->in_total;
  s->out = s->out_total;
  s->is_shut = 1;
  errno = ECHILD;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : fail("the child");
}

static int parent_goes_on(void) {
  const pid_t child = fork();
  if (child < 0) return fail("fork");
  if (child == 0) {
    usleep(2000);
    _exit(0);
  }
  return 0;
}

/* One byte out by splice, which only the kernel has. */
static int splice_one(struct Stream *s) {
  if (s->out >= s->out_total || s->is_shut) return 0;
  int ends[2];
  if (pipe(ends) < 0) return fail("pipe");
  const uint8_t byte = pattern(s->out);
  if (write(ends[1], &byte, 1) != 1) return fail("pipe");
  ssize_t n;
  do {
    n = splice(ends[0], NULL, s->fd, NULL, 1, 0);
    struct pollfd one = {s->fd, POLLOUT, 0};
    if (n < 0 && errno == EAGAIN) poll(&one, 1, 1000);
  } while (n < 0 && errno == EAGAIN);
  close(ends[0]);
  close(ends[1]);
  if (n != 1) return fail("splice");
  ++s->out;
  return 0;
}

/* 0: go on; 1: it is over here; -1: failed. */
static int trigger(struct Stream *s, char **argv) {
  s->trigger_at = ~0ull;
  if (is_trigger("option")) {
    const unsigned rate = ~0u;
    return setsockopt(s->fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate) == 0 ? 0 : fail("setsockopt");
  }
  if (is_trigger("splice")) return splice_one(s);
  if (is_trigger("stream")) {
    FILE *f = fdopen(dup(s->fd), "r+");
    return f != NULL && fclose(f) == 0 ? 0 : fail("fdopen");
  }
  if (is_trigger("pass")) return pass(s);
  if (is_trigger("fork-child")) return child_goes_on(s, argv, 0, 0);
  if (is_trigger("fork-close")) return child_goes_on(s, argv, 1, 0);
  if (is_trigger("fork-exec")) return child_goes_on(s, argv, 1, 1);
  if (is_trigger("fork-parent")) return parent_goes_on();
  if (is_trigger("exec")) return become_another_program(s, argv);
  if (is_trigger("spawn")) return system("true") == 0 ? 0 : fail("system");
  return 0;
}

/* --- one stream ---------------------------------------------------------------------------------------------------- */

static int write_some(struct Stream *s) {
  static uint8_t bytes[65536];
  while (s->out < s->out_total) {
    size_t n = 1 + random_number() % sizeof bytes;
    if (n > s->out_total - s->out) n = s->out_total - s->out;
    for (size_t i = 0; i < n; ++i) bytes[i] = pattern(s->out + i);
    const ssize_t sent = send(s->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? 0 : fail("send");
    s->out += (uint64_t)sent;
    if (s->out + s->in >= s->trigger_at) return 0;
  }
  if (!s->is_shut && shutdown(s->fd, SHUT_WR) < 0) return fail("shutdown");
  s->is_shut = 1;
  return 0;
}

/* 1: the end. */
static int read_some(struct Stream *s) {
  static uint8_t bytes[65536];
  for (;;) {
    const ssize_t got = recv(s->fd, bytes, 1 + random_number() % sizeof bytes, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : fail("recv");
    if (got == 0) {
      if (s->in == s->in_total) return 1;
      printf("ended after %" PRIu64 " of %" PRIu64 " bytes\n", s->in, s->in_total);
      return -1;
    }
    for (ssize_t i = 0; i < got; ++i) {
      if (bytes[i] == pattern(s->in + (uint64_t)i)) continue;
      printf("byte %" PRIu64 " is wrong\n", s->in + (uint64_t)i);
      return -1;
    }
    s->in += (uint64_t)got;
    if (s->in > s->in_total) {
      printf("more than %" PRIu64 " bytes\n", s->in_total);
      return -1;
    }
    if (s->out + s->in >= s->trigger_at) return 0;
  }
}

/* Waits for what can go on: by epoll, edge-triggered, or by poll. */
static int await(struct Stream *s) {
  const int timeout = 10000;
  struct epoll_event event;
  struct pollfd one = {s->fd, (short)(POLLIN | (s->is_shut ? 0 : POLLOUT)), 0};
  const int n = s->epoll >= 0 ? epoll_wait(s->epoll, &event, 1, timeout) : poll(&one, 1, timeout);
  if (n != 0) return 0;
  printf("nothing for %d ms after %" PRIu64 " out, %" PRIu64 " in (%s)\n", timeout, s->out, s->in,
         s->epoll >= 0 ? "epoll" : "poll");
  return -1;
}

static int run(struct Stream *s, char **argv) {
  for (int is_over = 0;;) {
    if (s->out + s->in >= s->trigger_at) {
      const int result = trigger(s, argv);
      if (result != 0) return result < 0 ? -1 : 0;
    }
    if (write_some(s) < 0) return -1;
    if (!is_over) is_over = read_some(s);
    if (is_over < 0) return -1;
    if (is_over && s->is_shut) return 0;
    if (s->out + s->in >= s->trigger_at) continue;
    if (await(s) < 0) return -1;
  }
}

static int run_and_close(struct Stream *s, char **argv) {
  const int moves = !is_trigger("pass") && !is_trigger("exec") && strncmp(g_trigger, "fork", 4) != 0;
  const uint64_t total = s->out_total + s->in_total;
  s->trigger_at = is_trigger("none") || total == 0 ? ~0ull : random_number() % total;
  const uint64_t trigger_at = s->trigger_at;
  s->epoll = -1;
  if (moves && random_number() % 2 == 0) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->fd, &event);
  }
  const double begin = seconds();
  const int result = run(s, argv);
  const double took = seconds() - begin;
  if (took > g_longest) g_longest = took;
  if (result != 0)
    printf("failed after %" PRIu64 " of %" PRIu64 " bytes out, %" PRIu64 " of %" PRIu64 " in; trigger at %" PRIu64 "%s\n",
           s->out, s->out_total, s->in, s->in_total, trigger_at, s->trigger_at == ~0ull ? ", done" : "");
  if (s->fd >= 0 && close(s->fd) < 0) return fail("close");
  if (s->epoll >= 0) close(s->epoll);
  return result;
}

/* --- ends ---------------------------------------------------------------------------------------------------------- */

static socklen_t parse(const char *address, int port, struct sockaddr_storage *out) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  memset(out, 0, sizeof *out);
  if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    return sizeof *v4;
  }
  inet_pton(AF_INET6, address, &v6->sin6_addr);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons((uint16_t)port);
  return sizeof *v6;
}

static int read_all(int fd, void *to, size_t bytes) {
  return recv(fd, to, bytes, MSG_WAITALL) == (ssize_t)bytes ? 0 : fail("the first bytes");
}

static int serve(const char *address, int port, int count, char **argv) {
  struct sockaddr_storage at;
  const socklen_t bytes = parse(address, port, &at);
  const int listener = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&at, bytes) < 0 || listen(listener, 16) < 0) return fail("listen");
  int good = 0;
  for (int i = 0; i < count; ++i) {
    struct Stream s = {.epoll = -1};
    s.fd = accept(listener, NULL, NULL);
    if (s.fd < 0) return fail("accept");
    uint64_t totals[2];
    if (read_all(s.fd, totals, sizeof totals) < 0) continue;
    s.in_total = totals[0];
    s.out_total = totals[1];
    if (run_and_close(&s, argv) == 0) ++good;
  }
  printf("longest %.3f s\ndone %d\n", g_longest, good);
  return good == count ? 0 : -1;
}

/* Everything into the socket, and out of the world. */
static void send_and_exit(int fd, uint64_t bytes) {
  uint8_t *all = malloc(bytes);
  for (uint64_t i = 0; i < bytes; ++i) all[i] = pattern(i);
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t n = send(fd, all + done, bytes - done, MSG_NOSIGNAL);
    if (n < 0) exit(fail("send") == 0);
    done += (uint64_t)n;
  }
  exit(0);
}

static int call_once(const char *address, int port, uint64_t out, uint64_t in, char **argv) {
  struct sockaddr_storage to;
  const socklen_t bytes = parse(address, port, &to);
  struct Stream s = {.out_total = out, .in_total = in, .epoll = -1};
  s.fd = socket(to.ss_family, SOCK_STREAM, 0);
  if (connect(s.fd, (struct sockaddr *)&to, bytes) < 0) return fail("connect");
  const uint64_t totals[2] = {out, in};
  if (send(s.fd, totals, sizeof totals, 0) != sizeof totals) return fail("send");
  if (is_trigger("exit")) send_and_exit(s.fd, out);
  return run_and_close(&s, argv);
}

/* Each connection of a process of its own where the trigger ends or replaces it. */
static int call(const char *address, int port, int count, uint64_t out, uint64_t in, char **argv) {
  const int is_last_act = is_trigger("exit") || is_trigger("exec");
  int good = 0;
  for (int i = 0; i < count; ++i) {
    random_number();
    if (!is_last_act) {
      good += call_once(address, port, out, in, argv) == 0;
      continue;
    }
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) exit(call_once(address, port, out, in, argv) == 0 ? 0 : 1);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  printf("longest %.3f s\ndone %d\n", g_longest, good);
  return good == count ? 0 : -1;
}

static uint64_t number(const char *text) { return strtoull(text, NULL, 10); }

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 8 && strcmp(argv[1], "resume") == 0) {
    struct Stream s = {.fd = atoi(argv[2]), .out_total = number(argv[3]), .in_total = number(argv[4]), .epoll = -1};
    s.out = number(argv[5]);
    s.in = number(argv[6]);
    s.is_shut = atoi(argv[7]);
    s.trigger_at = ~0ull;
    g_random = 88172645463325252u;
    return run(&s, argv) == 0 ? 0 : 1;
  }
  if (argc < 7) return 2;
  g_trigger = argv[5];
  g_random = number(argv[6]) * 0x9e3779b97f4a7c15u | 1;
  const int port = atoi(argv[3]), count = atoi(argv[4]);
  if (strcmp(argv[1], "serve") == 0) return serve(argv[2], port, count, argv) == 0 ? 0 : 1;
  if (argc < 9) return 2;
  return call(argv[2], port, count, number(argv[7]), number(argv[8]), argv) == 0 ? 0 : 1;
}
