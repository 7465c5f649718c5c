// Processes: fork however it is spelled, new programs, the end.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/facade.hh"
#include "preload/export.hh"
#include "preload/libc_calls.hh"

namespace facade = tto::facade;

extern "C" char** environ;

namespace {

TTO_LIBC(fork, pid_t());
TTO_LIBC(_Fork, pid_t());
TTO_LIBC(clone, int(int (*)(void*), void*, int, void*, ...));
TTO_LIBC(posix_spawn, int(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                          char* const[], char* const[]));
TTO_LIBC(posix_spawnp, int(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                           char* const[], char* const[]));
TTO_LIBC(system, int(const char*));
TTO_LIBC(popen, FILE*(const char*, const char*));
TTO_LIBC(execve, int(const char*, char* const[], char* const[]));
TTO_LIBC(execvpe, int(const char*, char* const[], char* const[]));
TTO_LIBC(execveat, int(int, const char*, char* const[], char* const[], int));
TTO_LIBC(fexecve, int(int, char* const[], char* const[]));
TTO_LIBC(_exit, void(int));
TTO_LIBC(quick_exit, void(int));

template <typename Fork>
pid_t forked(Fork& real_fork) {
  facade::before_fork();
  const pid_t child = real_fork();
  if (child == 0) {
    facade::after_fork_child();
  } else {
    facade::after_fork_parent();
  }
  return child;
}

struct CloneStart {
  int (*function)(void*);
  void* argument;
};

/// First code of a cloned process that has its own memory.
int start_cloned(void* p) {
  const CloneStart start = *static_cast<CloneStart*>(p);
  facade::after_fork_child();
  return start.function(start.argument);
}

int cloned(int (*function)(void*), void* stack, int flags, void* argument, void* ptid, void* tls, void* ctid) {
  // A thread, or a vfork-like child that only execs: the memory is shared, nothing of ours forks.
  if ((flags & CLONE_VM) != 0) return libc_clone(function, stack, flags, argument, ptid, tls, ctid);
  CloneStart start{function, argument};
  facade::before_fork();
  const int child = libc_clone(start_cloned, stack, flags, &start, ptid, tls, ctid);
  facade::after_fork_parent();
  return child;
}

/// daemon(): libc's forks inside, where no wrapper sees it.
int daemonize(int keep_directory, int keep_streams) {
  const pid_t child = forked(libc_fork);
  if (child < 0) return -1;
  if (child > 0) {
    facade::before_exit();
    libc__exit(0);
  }
  if (setsid() < 0) return -1;
  if (keep_directory == 0 && chdir("/") < 0) return -1;
  if (keep_streams != 0) return 0;
  const int fd = open("/dev/null", O_RDWR);
  if (fd < 0) return -1;
  for (int stream = 0; stream < 3; ++stream) tto_dup2(fd, stream);
  if (fd > 2) tto_close(fd);
  return 0;
}

/// The arguments of execl and friends as an array on the caller's stack.
int count_arguments(va_list arguments) {
  int n = 1;
  while (va_arg(arguments, char*) != nullptr) ++n;
  return n;
}

}  // namespace

// --- fork --------------------------------------------------------------------------------------------------------------
TTO_EXPORT(pid_t, fork) { return forked(libc_fork); }
TTO_EXPORT(pid_t, __fork) { return forked(libc_fork); }
TTO_EXPORT(pid_t, _Fork) { return forked(libc__Fork); }
// A C function cannot return twice into the same frame: a child with memory of its own behaves as POSIX lets it.
TTO_EXPORT(pid_t, vfork) { return forked(libc_fork); }
TTO_EXPORT(pid_t, __vfork) { return forked(libc_fork); }
#define TTO_CLONE(name)                                                                            \
  TTO_EXPORT(int, name, int (*function)(void*), void* stack, int flags, void* argument, ...) {     \
    va_list more;                                                                                  \
    va_start(more, argument);                                                                      \
    void* ptid = va_arg(more, void*);                                                              \
    void* tls = va_arg(more, void*);                                                               \
    void* ctid = va_arg(more, void*);                                                              \
    va_end(more);                                                                                  \
    return cloned(function, stack, flags, argument, ptid, tls, ctid);                              \
  }
TTO_CLONE(clone)
TTO_CLONE(__clone)
TTO_EXPORT(int, daemon, int keep_directory, int keep_streams) { return daemonize(keep_directory, keep_streams); }

// --- new programs ------------------------------------------------------------------------------------------------------
TTO_EXPORT(int, posix_spawn, pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
           const posix_spawnattr_t* attributes, char* const argv[], char* const env[]) {
  facade::before_spawn();
  return libc_posix_spawn(pid, path, actions, attributes, argv, env);
}
TTO_EXPORT(int, posix_spawnp, pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
           const posix_spawnattr_t* attributes, char* const argv[], char* const env[]) {
  facade::before_spawn();
  return libc_posix_spawnp(pid, file, actions, attributes, argv, env);
}
TTO_EXPORT(int, system, const char* command) {
  facade::before_spawn();
  return libc_system(command);
}
TTO_EXPORT(FILE*, popen, const char* command, const char* mode) {
  facade::before_spawn();
  return libc_popen(command, mode);
}
TTO_EXPORT(FILE*, _IO_popen, const char* command, const char* mode) {
  facade::before_spawn();
  return libc_popen(command, mode);
}
TTO_EXPORT(int, execve, const char* path, char* const argv[], char* const env[]) {
  facade::before_exec();
  return libc_execve(path, argv, env);
}
TTO_EXPORT(int, execv, const char* path, char* const argv[]) {
  facade::before_exec();
  return libc_execve(path, argv, environ);
}
TTO_EXPORT(int, execvp, const char* file, char* const argv[]) {
  facade::before_exec();
  return libc_execvpe(file, argv, environ);
}
TTO_EXPORT(int, execvpe, const char* file, char* const argv[], char* const env[]) {
  facade::before_exec();
  return libc_execvpe(file, argv, env);
}
TTO_EXPORT(int, execveat, int directory, const char* path, char* const argv[], char* const env[], int flags) {
  facade::before_exec();
  return libc_execveat(directory, path, argv, env, flags);
}
TTO_EXPORT(int, fexecve, int fd, char* const argv[], char* const env[]) {
  facade::before_exec();
  return libc_fexecve(fd, argv, env);
}

/// Collects `first` and what follows into `argv`; the list's end is left for va_arg to go on from (execle's environment).
#define TTO_COLLECT_ARGUMENTS(first)                                            \
  va_list counted, arguments;                                                   \
  va_start(counted, first);                                                     \
  const int count = count_arguments(counted);                                   \
  va_end(counted);                                                              \
  char** argv = static_cast<char**>(__builtin_alloca(sizeof(char*) * (static_cast<size_t>(count) + 1))); \
  va_start(arguments, first);                                                   \
  argv[0] = const_cast<char*>(first);                                           \
  for (int i = 1; i <= count; ++i) argv[i] = va_arg(arguments, char*)

TTO_EXPORT(int, execl, const char* path, const char* first, ...) {
  TTO_COLLECT_ARGUMENTS(first);
  va_end(arguments);
  facade::before_exec();
  return libc_execve(path, argv, environ);
}
TTO_EXPORT(int, execlp, const char* file, const char* first, ...) {
  TTO_COLLECT_ARGUMENTS(first);
  va_end(arguments);
  facade::before_exec();
  return libc_execvpe(file, argv, environ);
}
TTO_EXPORT(int, execle, const char* path, const char* first, ...) {
  TTO_COLLECT_ARGUMENTS(first);
  char** env = va_arg(arguments, char**);
  va_end(arguments);
  facade::before_exec();
  return libc_execve(path, argv, env);
}

// --- the end -----------------------------------------------------------------------------------------------------------
// exit() and the return from main() reach the finaliser below; what ends a process without finalisers is wrapped.
TTO_EXPORT(void, _exit, int status) {
  facade::before_exit();
  for (;;) libc__exit(status);
}
TTO_EXPORT(void, _Exit, int status) {
  facade::before_exit();
  for (;;) libc__exit(status);
}
TTO_EXPORT(void, quick_exit, int status) {
  facade::before_exit();
  for (;;) libc_quick_exit(status);
}

__attribute__((destructor)) static void at_exit() { facade::before_exit(); }
