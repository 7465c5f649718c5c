/* fork and its relatives, new programs, close_range: what children see and what parents keep. */
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "say.h"

int close_range(unsigned, unsigned, int);
void closefrom(int);
extern char **environ;

static int status_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void S13_fork(void) {
  int p[2];
  char b[8] = {0};
  connected_pair(p);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    write(p[0], "child", 5);
    _exit(7);
  }
  SAY(status_of(child));
  SAY(recv(p[1], b, 5, MSG_WAITALL));
  puts(b);
  SAY(close(p[0]));
  SAY(read(p[1], b, 8));
  close(p[1]);
}

static void prefork_accepts(void) {
  struct sockaddr_in a;
  char b[8] = {0};
  int listener = listen_on_loopback(&a);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int fd = accept(listener, NULL, NULL);
    write(fd, "served", 6);
    _exit(fd >= 0 ? 0 : 1);
  }
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  SAY(connect(fd, (struct sockaddr *)&a, sizeof a));
  SAY(recv(fd, b, 6, MSG_WAITALL));
  puts(b);
  SAY(status_of(child));
  close(fd);
  close(listener);
}

static int cloned(void *argument) {
  write(*(int *)argument, "c", 1);
  return 3;
}

static void S13_other_forks(void) {
  int p[2];
  char b[32] = {0};
  static char stack[65536];
  connected_pair(p);
  fflush(stdout);
  pid_t child = vfork();
  if (child == 0) _exit(5);
  SAY(status_of(child));
  child = (pid_t)syscall(SYS_fork);
  if (child == 0) {
    write(p[0], "s", 1);
    _exit(6);
  }
  SAY(status_of(child));
  child = clone(cloned, stack + sizeof stack, SIGCHLD, &p[0]);
  SAY(status_of(child));
  SAY(recv(p[1], b, 2, MSG_WAITALL));
  puts(b);
  FILE *f = popen("echo from popen", "r");
  SAY(fgets(b, sizeof b, f) != NULL);
  fputs(b, stdout);
  SAY(pclose(f));
  SAY(WEXITSTATUS(system("exit 4")));
  char *argv[] = {"sh", "-c", "exit 9", NULL};
  SAY(posix_spawnp(&child, "sh", NULL, NULL, argv, environ));
  SAY(status_of(child));
  SAY(write(p[0], "still", 5));
  SAY(recv(p[1], b, 5, MSG_WAITALL));
  close(p[0]);
  close(p[1]);
}

static void S13_exec_keeps_sockets(void) {
  int p[2];
  char b[16] = {0}, number[16];
  connected_pair(p);
  fflush(stdout);
  snprintf(number, sizeof number, "%d", p[0]);
  pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "eval \"echo exec >&$0\"", number, (char *)NULL);
    _exit(127);
  }
  SAY(status_of(child));
  SAY(recv(p[1], b, 5, MSG_WAITALL));
  fputs(b, stdout);
  close(p[0]);
  close(p[1]);
  child = fork();
  if (child == 0) {
    char *env[] = {"A=execle", NULL};
    execle("/bin/sh", "sh", "-c", "exit ${#A}", (char *)NULL, env);
    _exit(127);
  }
  SAY(status_of(child));
  child = fork();
  if (child == 0) {
    execlp("sh", "sh", "-c", "exit 8", (char *)NULL);
    _exit(127);
  }
  SAY(status_of(child));
  SAY(execl("/nonexistent", "x", (char *)NULL));
}

static void closing_ranges(void) {
  int p[2];
  char b[4];
  connected_pair(p);
  int low = p[0] < p[1] ? p[0] : p[1];
  SAY(close_range((unsigned)p[0], (unsigned)p[0], 0));
  SAY(read(p[1], b, 4));
  SAY(close_range(5, 4, 0));
  SAY(close_range((unsigned)p[1], (unsigned)p[1], CLOSE_RANGE_CLOEXEC));
  SAY(fcntl(p[1], F_GETFD));
  SAY(close_range((unsigned)p[1], (unsigned)p[1], 64));
  closefrom(low);
  SAY(fcntl(p[1], F_GETFD));
  /* As daemons do. */
  connected_pair(p);
  for (int fd = 3; fd < 4096; fd++) close(fd);
  SAY(fcntl(p[0], F_GETFD));
  connected_pair(p);
  SAY(write(p[0], "x", 1));
  SAY(read(p[1], b, 4));
  SAY(p[0] < 16 && p[1] < 16);
  close(p[0]);
  close(p[1]);
}

static void daemons(void) {
  int p[2];
  char b[8] = {0};
  connected_pair(p);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    if (daemon(0, 0) < 0) _exit(1);
    write(p[0], "daemon", 6);
    _exit(0);
  }
  SAY(status_of(child));
  SAY(recv(p[1], b, 6, MSG_WAITALL));
  puts(b);
  close(p[0]);
  close(p[1]);
}

int main(void) {
  S13_fork();
  prefork_accepts();
  S13_other_forks();
  S13_exec_keeps_sockets();
  daemons();
  closing_ranges();
  return 0;
}
