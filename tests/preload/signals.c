/* Handlers: what sigaction() answers, restarts, one-shot handlers, jumps out of a handler, threads that are cancelled. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/time.h>

#include "say.h"

static volatile sig_atomic_t hits, last_code;
static sigjmp_buf jump;

static void plain(int signal) { hits += signal == SIGUSR1; }
static void with_info(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)context;
  last_code = info->si_value.sival_int;
  hits++;
}
static void jumping(int signal) {
  (void)signal;
  siglongjmp(jump, 1);
}
static void nothing(int signal) { (void)signal; }

static void views(void) {
  struct sigaction a = {.sa_handler = plain, .sa_flags = SA_RESTART | SA_NODEFER}, old;
  sigaddset(&a.sa_mask, SIGUSR2);
  SAY(sigaction(SIGUSR1, &a, &old));
  SAY(old.sa_handler == SIG_DFL);
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_handler == plain);
  SAY(old.sa_flags & ~0x04000000);
  SAY(sigismember(&old.sa_mask, SIGUSR2));
  SAY(raise(SIGUSR1));
  SAY(hits);
  SAY(signal(SIGUSR1, SIG_IGN) == plain);
  SAY(raise(SIGUSR1));
  SAY(hits);
  SAY(signal(SIGUSR1, nothing) == SIG_IGN);
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_flags & SA_RESTART);
  SAY(siginterrupt(SIGUSR1, 1));
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_flags & SA_RESTART);
  SAY(sigaction(SIGKILL, &a, NULL));
  SAY(sigaction(0, &a, NULL));
  SAY(sigaction(65, NULL, NULL));
  SAY(signal(99, nothing) == SIG_ERR);
}

static void one_shot_and_info(void) {
  struct sigaction a = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO | (int)SA_RESETHAND}, old;
  union sigval value = {.sival_int = 42};
  sigaction(SIGUSR2, &a, NULL);
  hits = 0;
  SAY(sigqueue(getpid(), SIGUSR2, value));
  SAY(hits);
  SAY(last_code);
  SAY(sigaction(SIGUSR2, NULL, &old));
  SAY(old.sa_handler == SIG_DFL);
}

static void after(int ms, void (*handler)(int), int flags) {
  struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
  struct itimerval t = {.it_value = {0, ms * 1000}};
  sigaction(SIGALRM, &a, NULL);
  setitimer(ITIMER_REAL, &t, NULL);
}

static void *writes_later(void *fd) {
  usleep(60000);
  return (void *)(long)write(*(int *)fd, "late", 4);
}

static void S5_restart(void) {
  int p[2];
  char b[8];
  pthread_t thread;
  struct timeval t = {0, 80000};
  connected_pair(p);
  after(20, nothing, 0);
  SAY(read(p[1], b, 8));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pthread_create(&thread, NULL, writes_later, &p[0]);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  after(20, nothing, SA_RESTART);
  SAY(read(p[1], b, 8));
  pthread_join(thread, NULL);
  SAY(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  SAY(recv(p[1], b, 8, 0));
  after(20, nothing, SA_RESTART);
  SAY(recv(p[1], b, 8, 0));
  close(p[0]);
  close(p[1]);
}

static void jumps_out_of_a_sleep(void) {
  int p[2];
  char b[8];
  connected_pair(p);
  for (int i = 0; i < 3; i++) {
    if (sigsetjmp(jump, 1) == 0) {
      after(20, jumping, 0);
      fd_set r;
      FD_ZERO(&r);
      FD_SET(p[1], &r);
      if (i == 0) select(p[1] + 1, &r, NULL, NULL, NULL);
      if (i == 1) read(p[1], b, 8);
      if (i == 2) recv(p[1], b, 8, MSG_WAITALL);
      puts("not reached");
    } else {
      puts("jumped");
    }
  }
  SAY(write(p[0], "x", 1));
  SAY(read(p[1], b, 8));
  SAY(close(p[0]));
  SAY(read(p[1], b, 8));
  close(p[1]);
}

static void *blocked_reader(void *fd) {
  char b[8];
  read(*(int *)fd, b, 8);
  return NULL;
}

static void cancelled_threads(void) {
  int p[2];
  pthread_t thread;
  void *result = NULL;
  connected_pair(p);
  pthread_create(&thread, NULL, blocked_reader, &p[1]);
  usleep(20000);
  SAY(pthread_cancel(thread));
  SAY(pthread_join(thread, &result));
  SAY(result == PTHREAD_CANCELED);
  close(p[0]);
  close(p[1]);
}

int main(void) {
  views();
  one_shot_and_info();
  S5_restart();
  jumps_out_of_a_sleep();
  cancelled_threads();
  return 0;
}
