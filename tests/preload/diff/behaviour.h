/* A behaviour: one function that both ends of a connection run, on the kernel and on libtto; what each end prints must
 * not depend on who serves it. The ends step together over a Unix socket, so that nothing waits for time to pass. */
#ifndef TTO_TESTS_PRELOAD_DIFF_BEHAVIOUR_H
#define TTO_TESTS_PRELOAD_DIFF_BEHAVIOUR_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints a call, its result and, if it failed, its errno. */
#define SAY(call)                                                                             \
  do {                                                                                        \
    errno = 0;                                                                                \
    long say_result = (long)(call);                                                           \
    printf("%s = %ld %s\n", #call, say_result, say_result < 0 ? strerrorname_np(errno) : ""); \
  } while (0)

/* A descriptor's number may differ: only whether it is one is said. */
#define SAY_FD(variable, call)                                                \
  do {                                                                        \
    errno = 0;                                                                \
    variable = (call);                                                        \
    printf("%s = %s\n", #call, variable < 0 ? strerrorname_np(errno) : "fd"); \
  } while (0)

extern int serving;                    /* which end this is: the one that accepted */
extern int listener;                   /* where the server's connections come from; -1 at the other end */
extern struct sockaddr_storage server; /* its address */
extern struct sockaddr_storage silent; /* an address of the client's link whose host never answers */
extern socklen_t address_bytes;

/* Both ends have come as far. */
void step(void);
void tell(const void* value, size_t bytes);
void hear(void* value, size_t bytes);

/* A connection of the two ends, made now. The kernel's or libtto's way of it is noted for the driver. */
int connection(void);
void note_path(int fd);
/* The server's address with `ports` added to its port: for listeners of a behaviour's own. */
struct sockaddr* server_plus(int ports);
int new_socket(int flags);
/* A listener of this behaviour's own. */
int own_listener(int ports);

/* Conditions of the outside world; all give up after 5 s and say so. */
void await_bytes(int fd, int bytes); /* readable */
void await_state(int fd, int state); /* TCP_CLOSE_WAIT … */
void await_acked(int fd);            /* nothing sent is unacknowledged */
void await_sleep(pid_t thread);      /* a thread sleeps in a call */

short polled(int fd, short events, int ms);
/* Events in the order of their data: the kernel promises none. */
void say_events(const char* what, int epfd, int ms);
int epoll_with(int fd, uint32_t events, uint32_t data);
int take_so_error(int fd);

/* A call in a thread of its own: begins, sleeps, is awaited. */
struct sleeper {
  long (*call)(int fd);
  int fd;
  long result;
  int error;
  _Atomic pid_t thread;
  pthread_t handle;
};
void sleeper_start(struct sleeper* s, long (*call)(int fd), int fd); /* returns once it sleeps */
void sleeper_join(const char* what, struct sleeper* s);              /* and says how it ended */
long sleeper_recv(int fd);
long sleeper_poll_in(int fd);
long sleeper_accept(int fd);

/* Runs `call` in this thread, which gets SIGUSR1 as soon as it sleeps; restart: the handler has SA_RESTART. After the
 * signal was taken `after`, if any, is called in the other thread. */
long interrupted(int restart, long (*call)(int fd), int fd, void (*after)(int fd));

int64_t now_ms(void);

struct behaviour {
  const char* name;
  void (*run)(int fd);
  enum { CONNECTED, OWN_SOCKETS } start; /* fd is a connection made for it, or -1 */
};
extern const struct behaviour connecting[], listening[], receiving[], sending[], polling[], epolling[], options[],
    closing[], signals[], processes[], urgent[];

#endif
