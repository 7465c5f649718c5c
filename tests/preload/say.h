/* What the differential programs print: a call, its result, its errno. The driver runs each program with and without the
 * preload library and compares every line. */
#ifndef TTO_TESTS_PRELOAD_SAY_H
#define TTO_TESTS_PRELOAD_SAY_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SAY(call)                                                                             \
  do {                                                                                        \
    errno = 0;                                                                                \
    long say_result = (long)(call);                                                           \
    printf("%s:%d %s = %ld %s\n", __func__, __LINE__, #call, say_result, say_result < 0 ? strerrorname_np(errno) : ""); \
    fflush(stdout);                                                                           \
  } while (0)

/* A descriptor's number differs between runs when libtto holds some of its own: only whether it is one matters. */
#define SAY_FD(variable, call)                                                                \
  do {                                                                                        \
    errno = 0;                                                                                \
    variable = (call);                                                                        \
    printf("%s:%d %s = %s %s\n", __func__, __LINE__, #call, variable < 0 ? "-1" : "fd",       \
           variable < 0 ? strerrorname_np(errno) : "");                                       \
    fflush(stdout);                                                                           \
  } while (0)

static inline int listen_on_loopback(struct sockaddr_in *address) {
  socklen_t bytes = sizeof *address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  memset(address, 0, sizeof *address);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)address, bytes) < 0 || listen(fd, 16) < 0 ||
      getsockname(fd, (struct sockaddr *)address, &bytes) < 0) {
    perror("listen_on_loopback");
    exit(99);
  }
  return fd;
}

static inline void connected_pair(int pair[2]) {
  struct sockaddr_in address;
  int listener = listen_on_loopback(&address);
  pair[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(pair[0], (struct sockaddr *)&address, sizeof address) < 0) {
    perror("connected_pair");
    exit(99);
  }
  pair[1] = accept(listener, NULL, NULL);
  close(listener);
}

#endif
