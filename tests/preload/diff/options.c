/* Names, options and what is no socket call (S15, S16). */
#include <sys/mman.h>
#include <sys/stat.h>

#include "behaviour.h"

static void S15_tcp_info_of_any_length(int fd) {
  static const socklen_t lengths[] = {0, 1, 2, 7, 8, 104, 192, 500};
  union {
    struct tcp_info info;
    unsigned char bytes[512];
  } u;
  if (!serving) step();
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    socklen_t n = lengths[i];
    memset(&u, 0xee, sizeof u);
    SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &u, &n));
    printf("%u gives %u, untouched after it %d\n", lengths[i], n, u.bytes[n] == 0xee);
  }
  socklen_t n = (socklen_t)-1;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &u, &n));
  n = sizeof u.info;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, (void*)8, &n));
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &u, &n));
  SAY(u.info.tcpi_state);
  SAY(u.info.tcpi_ca_state);
  SAY(u.info.tcpi_retransmits);
  SAY(u.info.tcpi_options);
  SAY(u.info.tcpi_snd_mss);
  SAY(u.info.tcpi_advmss);
  SAY(u.info.tcpi_pmtu);
  SAY(u.info.tcpi_unacked);
  SAY(u.info.tcpi_total_retrans);
  SAY(u.info.tcpi_rto >= 200000 && u.info.tcpi_rto <= 3000000);
  SAY(u.info.tcpi_snd_cwnd >= 10);
  if (serving) step();
}

struct option {
  const char* name;
  int level, option;
};
#define OPTION(level, option) \
  { #option, level, option }
static const struct option ints[] = {OPTION(SOL_SOCKET, SO_ERROR),
                                     OPTION(SOL_SOCKET, SO_TYPE),
                                     OPTION(SOL_SOCKET, SO_DOMAIN),
                                     OPTION(SOL_SOCKET, SO_PROTOCOL),
                                     OPTION(SOL_SOCKET, SO_ACCEPTCONN),
                                     OPTION(SOL_SOCKET, SO_KEEPALIVE),
                                     OPTION(SOL_SOCKET, SO_REUSEADDR),
                                     OPTION(SOL_SOCKET, SO_BROADCAST),
                                     OPTION(SOL_SOCKET, SO_OOBINLINE),
                                     OPTION(SOL_SOCKET, SO_RCVLOWAT),
                                     OPTION(SOL_SOCKET, SO_SNDLOWAT),
                                     OPTION(SOL_SOCKET, SO_PRIORITY),
                                     OPTION(SOL_SOCKET, SO_DONTROUTE),
                                     OPTION(IPPROTO_TCP, TCP_NODELAY),
                                     OPTION(IPPROTO_TCP, TCP_CORK),
                                     OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
                                     OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
                                     OPTION(IPPROTO_TCP, TCP_KEEPCNT),
                                     OPTION(IPPROTO_TCP, TCP_SYNCNT),
                                     OPTION(IPPROTO_TCP, TCP_LINGER2),
                                     OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
                                     OPTION(IPPROTO_TCP, TCP_MAXSEG),
                                     OPTION(IPPROTO_IP, IP_TTL),
                                     OPTION(IPPROTO_IP, IP_TOS),
                                     OPTION(IPPROTO_IPV6, IPV6_TCLASS),
                                     OPTION(SOL_SOCKET, 9999),
                                     OPTION(IPPROTO_TCP, 9999),
                                     OPTION(IPPROTO_UDP, 1),
                                     OPTION(9999, 1)};

static void S16_getsockopt_truncates(int fd) {
  if (!serving) step();
  for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
    for (socklen_t length = 0; length <= 8; length += length == 4 ? 4 : 1) {
      unsigned char b[12];
      memset(b, 0xee, sizeof b);
      socklen_t n = length;
      errno = 0;
      const int r = getsockopt(fd, ints[i].level, ints[i].option, b, &n);
      printf("%s by %u = %d %s length %u", ints[i].name, length, r, r < 0 ? strerrorname_np(errno) : "", n);
      for (socklen_t k = 0; r == 0 && k < n && k < sizeof b; k++) printf(" %02x", b[k]);
      puts(b[n < sizeof b ? n : 0] == 0xee || r < 0 ? "" : " and more");
    }
    socklen_t negative = (socklen_t)-4, four = 4;
    int value;
    SAY(getsockopt(fd, ints[i].level, ints[i].option, &value, &negative));
    SAY(getsockopt(fd, ints[i].level, ints[i].option, (void*)8, &four));
    SAY(getsockopt(fd, ints[i].level, ints[i].option, &value, (socklen_t*)8));
  }
  if (serving) step();
}

static void S16_setsockopt_judges(int fd) {
  static const struct option settable[] = {OPTION(SOL_SOCKET, SO_KEEPALIVE),
                                           OPTION(SOL_SOCKET, SO_REUSEADDR),
                                           OPTION(SOL_SOCKET, SO_RCVLOWAT),
                                           OPTION(SOL_SOCKET, SO_ERROR),
                                           OPTION(SOL_SOCKET, SO_TYPE),
                                           OPTION(SOL_SOCKET, SO_PRIORITY),
                                           OPTION(IPPROTO_TCP, TCP_NODELAY),
                                           OPTION(IPPROTO_TCP, TCP_CORK),
                                           OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
                                           OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
                                           OPTION(IPPROTO_TCP, TCP_KEEPCNT),
                                           OPTION(IPPROTO_TCP, TCP_SYNCNT),
                                           OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
                                           OPTION(IPPROTO_TCP, TCP_MAXSEG),
                                           OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT),
                                           OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
                                           OPTION(IPPROTO_IP, IP_TTL),
                                           OPTION(IPPROTO_IP, IP_TOS),
                                           OPTION(SOL_SOCKET, 9999),
                                           OPTION(IPPROTO_TCP, 9999),
                                           OPTION(9999, 1)};
  static const int values[] = {0, 1, 5, 300, 70000, -1};
  if (!serving) {
    step();
    return;
  }
  for (size_t i = 0; i < sizeof settable / sizeof settable[0]; i++) {
    const struct option* o = &settable[i];
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
      int now = -1;
      socklen_t n = sizeof now;
      errno = 0;
      const int r = setsockopt(fd, o->level, o->option, &values[v], sizeof values[v]);
      const int error = r < 0 ? errno : 0;
      getsockopt(fd, o->level, o->option, &now, &n);
      printf("%s %d = %d %s, then %d\n", o->name, values[v], r, error ? strerrorname_np(error) : "", now);
    }
    SAY(setsockopt(fd, o->level, o->option, &values[1], 1));
    SAY(setsockopt(fd, o->level, o->option, &values[1], 0));
    SAY(setsockopt(fd, o->level, o->option, &values[1], (socklen_t)-1));
    SAY(setsockopt(fd, o->level, o->option, (void*)8, sizeof(int)));
    SAY(setsockopt(fd, o->level, o->option, NULL, sizeof(int)));
  }
  step();
}

static void S16_buffers(int fd) {
  static const int sizes[] = {1, 5000, 100000, 1 << 30, -1};
  if (!serving) {
    step();
    return;
  }
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    int value = 0;
    socklen_t n = sizeof value;
    SAY(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sizes[i], sizeof(int)));
    SAY(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, &n));
    SAY(value);
    SAY(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &sizes[i], sizeof(int)));
    SAY(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, &n));
    SAY(value);
  }
  step();
}

static void S16_congestion_names(int fd) {
  char name[32];
  socklen_t n;
  if (!serving) {
    step();
    return;
  }
  for (socklen_t length = 0; length <= 32; length += length == 8 ? 24 : 4) {
    n = length;
    memset(name, 0xee, sizeof name);
    SAY(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &n));
    SAY(n);
  }
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
  SAY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
  n = sizeof name;
  SAY(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &n));
  puts(name);
  step();
}

static void S16_names(int fd) {
  struct sockaddr_storage a;
  char text[64];
  socklen_t n;
  static const socklen_t lengths[] = {sizeof(struct sockaddr_storage), 16, 4, 2, 0, (socklen_t)-1};
  if (!serving) step();
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    memset(&a, 0, sizeof a);
    n = lengths[i];
    SAY(serving ? getsockname(fd, (struct sockaddr*)&a, &n) : getpeername(fd, (struct sockaddr*)&a, &n));
    SAY((int)n);
    SAY(a.ss_family);
    if (i == 0) {
      const void* at = a.ss_family == AF_INET ? (void*)&((struct sockaddr_in*)&a)->sin_addr
                                              : (void*)&((struct sockaddr_in6*)&a)->sin6_addr;
      puts(inet_ntop(a.ss_family, at, text, sizeof text));
    }
    n = lengths[i];
    SAY(serving ? getpeername(fd, (struct sockaddr*)&a, &n) : getsockname(fd, (struct sockaddr*)&a, &n));
    SAY((int)n);
  }
  n = sizeof a;
  SAY(getsockname(fd, (struct sockaddr*)8, &n));
  SAY(getpeername(fd, (struct sockaddr*)8, &n));
  SAY(getsockname(fd, (struct sockaddr*)&a, (socklen_t*)8));
  SAY(getpeername(fd, NULL, NULL));
  SAY(getpeername(listener, (struct sockaddr*)&a, &n));
  if (serving) step();
}

static void S16_is_a_socket(int fd) {
  struct stat s;
  char b[4];
  int n = 1, zero = 0;
  struct flock lock = {.l_type = F_WRLCK};
  if (!serving) step();
  SAY(fstat(fd, &s));
  SAY(S_ISSOCK(s.st_mode));
  SAY(lseek(fd, 0, SEEK_CUR));
  SAY(pread(fd, b, 1, 0));
  SAY(pwrite(fd, b, 1, 0));
  SAY(ftruncate(fd, 0));
  SAY(fsync(fd));
  SAY(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
  SAY(isatty(fd));
  SAY(fcntl(fd, F_SETLK, &lock));
  SAY(fcntl(fd, F_GETFD));
  SAY(fcntl(fd, F_SETFD, FD_CLOEXEC));
  SAY(fcntl(fd, F_GETFD));
  SAY(fcntl(fd, F_GETFL));
  SAY(ioctl(fd, FIONBIO, &n));
  SAY(fcntl(fd, F_GETFL));
  SAY(recv(fd, b, 4, 0));
  SAY(ioctl(fd, FIONBIO, &zero));
  SAY(fcntl(fd, F_GETFL));
  SAY(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
  SAY(fcntl(fd, F_GETFL));
  SAY(fcntl(fd, 9999));
  SAY(ioctl(fd, FIONBIO, NULL));
  SAY(ioctl(fd, TCGETS, b));
  SAY(ioctl(fd, 0xdeadbeef, b));
  SAY(fchmod(fd, 0600) == 0 || errno == EINVAL);
  if (serving) step();
}

const struct behaviour options[] = {{"S15_tcp_info_of_any_length", S15_tcp_info_of_any_length, CONNECTED},
                                    {"S16_getsockopt_truncates", S16_getsockopt_truncates, CONNECTED},
                                    {"S16_setsockopt_judges", S16_setsockopt_judges, CONNECTED},
                                    {"S16_buffers", S16_buffers, CONNECTED},
                                    {"S16_congestion_names", S16_congestion_names, CONNECTED},
                                    {"S16_names", S16_names, CONNECTED},
                                    {"S16_is_a_socket", S16_is_a_socket, CONNECTED},
                                    {0}};
