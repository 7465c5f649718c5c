/* One end of the differential test: behaviours serve|call CONTROL ADDRESS SILENT-ADDRESS PORT BEHAVIOUR…
 * CONTROL is a descriptor that leads to the other end. `behaviours list` prints the names of all. Lines that start with
 * # are for the driver (diff.py) and not compared. */
#include <sys/syscall.h>
#include <time.h>

#include "behaviour.h"

enum { PATIENCE_MS = 5000 };

static int control;
int serving, listener = -1;
struct sockaddr_storage server, silent;
socklen_t address_bytes;

static const struct behaviour* const families[] = {connecting, listening, receiving, sending,   polling, epolling,
                                                   options,    closing,   signals,   processes, urgent};

/* --- both ends -----------------------------------------------------------------------------------------------------
 */
void tell(const void* value, size_t bytes) {
  if (write(control, value, bytes) != (ssize_t)bytes) exit(90);
}

void hear(void* value, size_t bytes) {
  char* at = value;
  while (bytes > 0) {
    const ssize_t n = read(control, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) exit(90); /* the other end is gone */
    at += n;
    bytes -= (size_t)n;
  }
}

void step(void) {
  char b = 's';
  tell(&b, 1);
  hear(&b, 1);
}

/* --- sockets ---------------------------------------------------------------------------------------------------------
 */
struct sockaddr* server_plus(int ports) {
  static struct sockaddr_storage other;
  struct sockaddr_in* a = (struct sockaddr_in*)&other; /* the port is at the same place in both families */
  other = server;
  a->sin_port = htons((uint16_t)(ntohs(a->sin_port) + ports));
  return (struct sockaddr*)&other;
}

int new_socket(int flags) { return socket(server.ss_family, SOCK_STREAM | flags, 0); }

int own_listener(int ports) {
  const int fd = new_socket(0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, server_plus(ports), address_bytes) < 0 || listen(fd, 16) < 0) {
    printf("own_listener: %s\n", strerrorname_np(errno));
    exit(94);
  }
  polled(fd, POLLIN, 0); /* it is libtto's from the first look at it on */
  return fd;
}

/* The kernel's own answer, past any library. */
static long raw_call(long number, long a, long b, long c, long d, long e) {
#ifdef __x86_64__
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
#else
#error "a system call without libc is needed here"
#endif
}

/* What libtto serves is nothing to the kernel: a closed socket, or a listener kept non-blocking underneath. */
void note_path(int fd) {
  struct tcp_info info = {0};
  socklen_t n = sizeof info;
  raw_call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&n);
  const int is_listener = info.tcpi_state == TCP_LISTEN &&
                          (raw_call(SYS_fcntl, fd, F_GETFL, 0, 0, 0) & O_NONBLOCK) != 0 &&
                          (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  printf("# path %s\n", is_listener || info.tcpi_state == TCP_CLOSE ? "af_xdp" : "kernel");
}

int connection(void) {
  const int fd = serving ? accept(listener, NULL, NULL) : new_socket(0);
  if (fd < 0 || (!serving && connect(fd, (struct sockaddr*)&server, address_bytes) < 0)) {
    printf("connection: %s\n", strerrorname_np(errno));
    exit(91);
  }
  note_path(fd);
  return fd;
}

int take_so_error(int fd) {
  int error = -1;
  socklen_t n = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : error;
}

/* --- waiting ---------------------------------------------------------------------------------------------------------
 */
int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int tcp_state(int fd) {
  struct tcp_info info = {0};
  socklen_t n = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 ? -1 : info.tcpi_state;
}

static char task_state(pid_t thread) {
  char path[64], b[256] = {0};
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t n = read(fd, b, sizeof b - 1);
  close(fd);
  const char* end = n > 0 ? strrchr(b, ')') : NULL;
  return end ? end[2] : 'X';
}

#define AWAIT(what, condition)                                  \
  do {                                                          \
    const int64_t await_until = now_ms() + PATIENCE_MS;         \
    while (!(condition) && now_ms() < await_until) usleep(200); \
    if (!(condition)) printf("waited in vain for %s\n", what);  \
  } while (0)

static int readable(int fd) {
  int n = 0;
  return ioctl(fd, FIONREAD, &n) < 0 ? -1 : n;
}
static int unacknowledged(int fd) {
  int n = 0;
  return ioctl(fd, SIOCOUTQ, &n) < 0 ? -1 : n;
}

void await_bytes(int fd, int bytes) { AWAIT("bytes", readable(fd) >= bytes); }
void await_state(int fd, int state) { AWAIT("a state", tcp_state(fd) == state); }
void await_acked(int fd) { AWAIT("acknowledgements", unacknowledged(fd) == 0); }

/* Asleep, and still so after a while: a short wait for a lock does not count. */
void await_sleep(pid_t thread) {
  int asleep = 0;
  for (int i = 0; i < 4000 && asleep < 8; i++, usleep(1000)) asleep = task_state(thread) == 'S' ? asleep + 1 : 0;
}

/* --- readiness -------------------------------------------------------------------------------------------------------
 */
short polled(int fd, short events, int ms) {
  struct pollfd p = {fd, events, 0};
  return poll(&p, 1, ms) < 0 ? -1 : p.revents;
}

static int by_data(const void* a, const void* b) {
  return (int)((const struct epoll_event*)a)->data.u32 - (int)((const struct epoll_event*)b)->data.u32;
}

void say_events(const char* what, int epfd, int ms) {
  struct epoll_event e[16];
  const int n = epoll_wait(epfd, e, 16, ms);
  if (n > 0) qsort(e, (size_t)n, sizeof e[0], by_data);
  printf("%s %d:", what, n);
  for (int i = 0; i < n; i++) printf(" %x/%u", e[i].events, e[i].data.u32);
  puts(n < 0 ? strerrorname_np(errno) : "");
}

int epoll_with(int fd, uint32_t events, uint32_t data) {
  const int ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = events, .data.u32 = data};
  SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  return ep;
}

/* --- threads ---------------------------------------------------------------------------------------------------------
 */
static void* sleeper_run(void* of) {
  struct sleeper* s = of;
  s->thread = gettid();
  errno = 0;
  s->result = s->call(s->fd);
  s->error = errno;
  return NULL;
}

void sleeper_start(struct sleeper* s, long (*call)(int fd), int fd) {
  *s = (struct sleeper){.call = call, .fd = fd};
  pthread_create(&s->handle, NULL, sleeper_run, s);
  AWAIT("a thread", s->thread != 0);
  await_sleep(s->thread);
}

void sleeper_join(const char* what, struct sleeper* s) {
  pthread_join(s->handle, NULL);
  printf("%s ended with %ld %s\n", what, s->result, s->result < 0 ? strerrorname_np(s->error) : "");
}

long sleeper_recv(int fd) {
  char b[64];
  return recv(fd, b, sizeof b, 0);
}
long sleeper_poll_in(int fd) { return polled(fd, POLLIN | POLLRDHUP, -1); }
long sleeper_accept(int fd) {
  const int peer = accept(fd, NULL, NULL);
  if (peer >= 0) close(peer);
  return peer < 0 ? -1 : 0;
}

static struct {
  pid_t victim;
  _Atomic int taken;
  void (*after)(int fd);
  int fd;
} interrupter;

static void on_usr1(int number) {
  (void)number;
  interrupter.taken = 1;
}

static void* interrupt(void* unused) {
  await_sleep(interrupter.victim);
  tgkill(getpid(), interrupter.victim, SIGUSR1);
  AWAIT("a signal", interrupter.taken);
  if (interrupter.after) {
    await_sleep(interrupter.victim); /* it may have gone back to sleep */
    interrupter.after(interrupter.fd);
  }
  return unused;
}

long interrupted(int restart, long (*call)(int fd), int fd, void (*after)(int fd)) {
  struct sigaction a = {.sa_handler = on_usr1, .sa_flags = restart ? SA_RESTART : 0};
  pthread_t thread;
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigaction(SIGUSR1, &a, NULL);
  interrupter.victim = gettid();
  interrupter.after = after;
  interrupter.fd = fd;
  interrupter.taken = 0;
  pthread_create(&thread, NULL, interrupt, NULL);
  const long result = call(fd);
  const int error = errno;
  pthread_join(thread, NULL);
  errno = error;
  return result;
}

/* --- the programme
 * ----------------------------------------------------------------------------------------------------- */
static const struct behaviour* find(const char* name) {
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
    for (const struct behaviour* b = families[i]; b->name; b++)
      if (strcmp(b->name, name) == 0) return b;
  return NULL;
}

static int parse(const char* text, struct sockaddr_storage* out, uint16_t port) {
  struct sockaddr_in* a4 = (struct sockaddr_in*)out;
  struct sockaddr_in6* a6 = (struct sockaddr_in6*)out;
  memset(out, 0, sizeof *out);
  if (inet_pton(AF_INET, text, &a4->sin_addr) == 1) {
    a4->sin_family = AF_INET;
    address_bytes = sizeof *a4;
  } else if (inet_pton(AF_INET6, text, &a6->sin6_addr) == 1) {
    a6->sin6_family = AF_INET6;
    address_bytes = sizeof *a6;
  } else {
    return 0;
  }
  a4->sin_port = htons(port);
  return 1;
}

static void listen_at_server(void) {
  const int one = 1;
  listener = new_socket(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr*)&server, address_bytes) < 0 || listen(listener, 64) < 0) exit(92);
  polled(listener, POLLIN, 0); /* it is libtto's from the first look at it on */
}

static int list(void) {
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
    for (const struct behaviour* b = families[i]; b->name; b++) puts(b->name);
  return 0;
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
  if (argc < 7 || !parse(argv[4], &silent, 80) || !parse(argv[3], &server, (uint16_t)atoi(argv[5]))) return 2;
  control = atoi(argv[2]);
  serving = strcmp(argv[1], "serve") == 0;
  signal(SIGPIPE, SIG_IGN);
  if (serving) listen_at_server();
  step();
  for (int i = 6; i < argc; i++) {
    const struct behaviour* b = find(argv[i]);
    if (!b) return 2;
    printf("# begin %s\n", b->name);
    alarm(10); /* hung: the driver sees the signal */
    const int fd = b->start == CONNECTED ? connection() : -1;
    step();
    b->run(fd);
    step();
    if (fd >= 0) close(fd);
    alarm(0);
    printf("# end %s\n", b->name);
  }
  return 0;
}
