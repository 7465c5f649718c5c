/* A library whose constructor uses descriptors before anybody else's constructors ran. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

int early_result = -1;

__attribute__((constructor(101))) static void early(void) {
  char b[4] = {0};
  int pipes[2];
  if (pipe(pipes) < 0) return;
  if (write(pipes[1], "ok", 2) != 2) return;
  struct pollfd f = {pipes[0], POLLIN, 0};
  if (poll(&f, 1, 1000) != 1 || read(pipes[0], b, 4) != 2) return;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  early_result = fd >= 0 && fcntl(fd, F_GETFL) >= 0 && b[0] == 'o' ? 0 : 1;
  close(fd);
  close(pipes[0]);
  close(pipes[1]);
}

int early_sockets_work(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  int copy = dup(fd);
  return fd >= 0 && copy >= 0 && close(fd) == 0 && close(copy) == 0;
}
