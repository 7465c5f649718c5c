/* More than one process on a connection, and calls that only the kernel can serve (S13, S14). */
#include <spawn.h>

#include "behaviour.h"

static int exit_status(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The client's half of most: a question, an answer of six bytes, the end. */
static void asks(int fd) {
  char b[8] = {0};
  step();
  SAY(write(fd, "ask", 3));
  SAY(recv(fd, b, 6, MSG_WAITALL));
  puts(b);
  SAY(recv(fd, b, 1, 0));
  step();
}

static void S13_child_closes(int fd) {
  char b[8];
  if (!serving) {
    asks(fd);
    return;
  }
  const pid_t child = fork();
  if (child == 0) _exit(close(fd) == 0 ? 3 : 4); /* must not end the parent's connection */
  SAY(exit_status(child));
  SAY(WEXITSTATUS(system("exit 5")));
  step();
  SAY(recv(fd, b, 3, MSG_WAITALL));
  SAY(write(fd, "parent", 6));
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static void S13_child_serves(int fd) {
  char b[8];
  if (!serving) {
    asks(fd);
    return;
  }
  const pid_t child = fork();
  if (child == 0) _exit(recv(fd, b, 3, MSG_WAITALL) == 3 && write(fd, "child!", 6) == 6 ? 3 : 4);
  SAY(close(fd)); /* the child's end is the last */
  step();
  SAY(exit_status(child));
  step();
}

static void S13_both_write(int fd) {
  char b[8];
  if (!serving) {
    asks(fd);
    return;
  }
  step();
  SAY(recv(fd, b, 1, 0));
  const pid_t child = fork();
  if (child == 0) _exit(recv(fd, b, 2, MSG_WAITALL) == 2 && write(fd, "chi", 3) == 3 ? 3 : 4);
  SAY(exit_status(child));
  SAY(write(fd, "par", 3));
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static void S13_child_shuts_down(int fd) {
  char b[8];
  if (!serving) {
    asks(fd);
    return;
  }
  step();
  SAY(recv(fd, b, 3, MSG_WAITALL));
  SAY(write(fd, "before", 6));
  const pid_t child = fork();
  if (child == 0) _exit(shutdown(fd, SHUT_WR) == 0 ? 3 : 4);
  SAY(exit_status(child));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  step();
}

static void S13_exec_keeps_it(int fd) {
  if (!serving) {
    asks(fd);
    return;
  }
  const pid_t child = fork();
  if (child == 0) {
    dup2(fd, 0);
    dup2(fd, 1);
    execl("/bin/sh", "sh", "-c", "head -c 3 >/dev/null; printf execed", (char*)NULL);
    _exit(9);
  }
  SAY(close(fd));
  step();
  SAY(exit_status(child));
  step();
}

static void S13_spawned_program_serves(int fd) {
  if (!serving) {
    asks(fd);
    return;
  }
  posix_spawn_file_actions_t actions;
  char *argv[] = {"sh", "-c", "head -c 3 >/dev/null; printf spawnd", NULL}, *env[] = {NULL};
  pid_t child = -1;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fd, 0);
  posix_spawn_file_actions_adddup2(&actions, fd, 1);
  SAY(posix_spawn(&child, "/bin/sh", &actions, NULL, argv, env));
  posix_spawn_file_actions_destroy(&actions);
  SAY(close(fd));
  step();
  SAY(exit_status(child));
  step();
}

static void S14_passed_on(int fd) {
  int pair[2];
  char b[8], control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec v = {b, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (!serving) {
    asks(fd);
    return;
  }
  SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  const pid_t child = fork();
  if (child == 0) {
    close(fd);
    if (recvmsg(pair[1], &m, 0) != 1) _exit(5);
    const int got = *(int*)CMSG_DATA(CMSG_FIRSTHDR(&m));
    _exit(recv(got, b, 3, MSG_WAITALL) == 3 && write(got, "passed", 6) == 6 ? 3 : 4);
  }
  struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  SAY(sendmsg(pair[0], &m, 0));
  SAY(close(fd));
  step();
  SAY(exit_status(child));
  close(pair[0]);
  close(pair[1]);
  step();
}

static void S13_listener_in_the_child(int unused) {
  char b[8] = {0};
  (void)unused;
  if (!serving) {
    step();
    const int s = new_socket(0);
    SAY(connect(s, server_plus(2), address_bytes));
    note_path(s);
    SAY(recv(s, b, 5, MSG_WAITALL));
    step();
    close(s);
    return;
  }
  const int own = own_listener(2);
  note_path(own);
  const pid_t child = fork();
  if (child == 0) {
    const int peer = accept(own, NULL, NULL);
    _exit(peer >= 0 && write(peer, "child", 5) == 5 ? 3 : 4);
  }
  SAY(close(own));
  step();
  SAY(exit_status(child));
  step();
}

static void S8_splice(int fd) {
  int ends[2];
  char b[8];
  if (!serving) {
    asks(fd);
    return;
  }
  SAY(pipe(ends));
  step();
  SAY(recv(fd, b, 1, 0));
  SAY(splice(fd, NULL, ends[1], NULL, 2, 0));
  SAY(write(ends[1], "pipe", 4));
  SAY(splice(ends[0], NULL, fd, NULL, 6, 0));
  SAY(shutdown(fd, SHUT_WR));
  close(ends[0]);
  close(ends[1]);
  step();
}

static void S8_stdio(int fd) {
  char line[16] = {0};
  if (!serving) {
    asks(fd);
    return;
  }
  step();
  FILE *in = fdopen(dup(fd), "r"), *out = fdopen(dup(fd), "w");
  SAY(fread(line, 1, 3, in));
  puts(line);
  SAY(fprintf(out, "stream"));
  SAY(fclose(out));
  SAY(fclose(in));
  SAY(shutdown(fd, SHUT_WR));
  step();
}

static void S1_connect_to_nowhere_dissolves(int fd) {
  struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
  char b[4];
  if (serving) {
    SAY(recv(fd, b, 4, 0));
    step();
    return;
  }
  SAY(connect(fd, &nowhere, sizeof nowhere));
  SAY(send(fd, "x", 1, MSG_NOSIGNAL));
  SAY(polled(fd, POLLIN | POLLOUT, 0));
  step();
}

static void S16_asynchronous_io_signals(int fd) {
  if (!serving) {
    step();
    return;
  }
  SAY(fcntl(fd, F_SETOWN, getpid()));
  SAY(fcntl(fd, F_GETOWN) == getpid());
  SAY(fcntl(fd, F_SETSIG, SIGURG));
  SAY(fcntl(fd, F_SETFL, O_ASYNC));
  SAY(fcntl(fd, F_GETFL) & O_ASYNC);
  step();
}

const struct behaviour processes[] = {{"S13_child_closes", S13_child_closes, CONNECTED},
                                      {"S13_child_serves", S13_child_serves, CONNECTED},
                                      {"S13_both_write", S13_both_write, CONNECTED},
                                      {"S13_child_shuts_down", S13_child_shuts_down, CONNECTED},
                                      {"S13_exec_keeps_it", S13_exec_keeps_it, CONNECTED},
                                      {"S13_spawned_program_serves", S13_spawned_program_serves, CONNECTED},
                                      {"S13_listener_in_the_child", S13_listener_in_the_child, OWN_SOCKETS},
                                      {"S14_passed_on", S14_passed_on, CONNECTED},
                                      {"S8_splice", S8_splice, CONNECTED},
                                      {"S8_stdio", S8_stdio, CONNECTED},
                                      {"S1_connect_to_nowhere_dissolves", S1_connect_to_nowhere_dissolves, CONNECTED},
                                      {"S16_asynchronous_io_signals", S16_asynchronous_io_signals, CONNECTED},
                                      {0}};
