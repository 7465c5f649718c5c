/* Receiving: flags with partial data, time-outs, low-water marks, vectors (S8, S9, S10, S15). */
#include "behaviour.h"

static void S8_peek(int fd) {
  char b[64] = {0};
  if (!serving) {
    SAY(send(fd, "hello world", 11, 0));
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  await_bytes(fd, 11);
  SAY(recv(fd, b, 5, MSG_PEEK));
  SAY(recv(fd, b, 64, MSG_PEEK));
  SAY(recv(fd, b, 64, MSG_PEEK | MSG_TRUNC));
  SAY(recv(fd, b, 3, 0));
  SAY(recv(fd, b, 64, MSG_PEEK | MSG_DONTWAIT));
  puts(b);
  SAY(recv(fd, b, 5, MSG_TRUNC)); /* discards */
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  SAY(recv(fd, b, 20, MSG_PEEK | MSG_WAITALL));
  SAY(recv(fd, b, 20, MSG_WAITALL));
  SAY(recv(fd, b, 20, MSG_PEEK));
  step();
}

static char waited[16];
static long recv_10_waitall(int fd) { return recv(fd, waited, 10, MSG_WAITALL); }

static void S8_waitall(int fd) {
  struct sleeper sleeper;
  if (!serving) {
    SAY(write(fd, "01234", 5));
    step();
    SAY(write(fd, "56789ab", 7));
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  await_bytes(fd, 5);
  SAY(recv(fd, waited, 10, MSG_WAITALL | MSG_DONTWAIT));
  sleeper_start(&sleeper, recv_10_waitall, fd);
  step();
  step();
  sleeper_join("recv", &sleeper);
  SAY(recv(fd, waited, 10, MSG_WAITALL));
  puts(waited);
  step();
}

static void S8_dontwait_and_ends(int fd) {
  char b[8];
  if (!serving) {
    step();
    SAY(write(fd, "abc", 3));
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  SAY(recv(fd, b, 8, MSG_DONTWAIT));
  SAY(read(fd, b, 0));
  SAY(recv(fd, b, 0, MSG_DONTWAIT));
  SAY(recv(fd, NULL, 0, MSG_DONTWAIT));
  SAY(fcntl(fd, F_SETFL, O_NONBLOCK));
  SAY(read(fd, b, 8));
  SAY(readv(fd, NULL, 0));
  SAY(recv(fd, b, 8, MSG_WAITALL));
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  SAY(read(fd, b, 0));
  SAY(recv(fd, b, 0, 0));
  SAY(read(fd, b, 2));
  SAY(recv(fd, b, 8, MSG_WAITALL));
  SAY(read(fd, b, 8));
  SAY(recv(fd, b, 8, MSG_DONTWAIT));
  SAY(recv(fd, b, 0, 0));
  step();
}

static long recv_nothing(int fd) {
  char b;
  return recv(fd, &b, 0, 0);
}

static void S8_recv_of_nothing_waits(int fd) {
  struct sleeper sleeper;
  char b[4];
  if (!serving) {
    step();
    SAY(write(fd, "abc", 3));
    step();
    return;
  }
  sleeper_start(&sleeper, recv_nothing, fd);
  step();
  sleeper_join("recv", &sleeper);
  SAY(recv(fd, b, 4, 0));
  step();
}

static void S8_messages(int fd) {
  char b[64] = {0}, name[64], control[64];
  struct iovec v[3] = {{b, 3}, {b + 16, 0}, {b + 8, 20}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
  if (!serving) {
    SAY(send(fd, "hello world", 11, 0));
    step();
    SAY(send(fd, "one", 3, 0));
    step();
    return;
  }
  await_bytes(fd, 11);
  m.msg_name = name;
  m.msg_namelen = sizeof name;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  m.msg_flags = -1;
  SAY(recvmsg(fd, &m, 0));
  printf("%s|%s name %u control %zu flags %x\n", b, b + 8, m.msg_namelen, m.msg_controllen, (unsigned)m.msg_flags);
  SAY(recv(fd, b, 8, MSG_OOB));
  SAY(recv(fd, b, 8, MSG_ERRQUEUE));
  m.msg_iovlen = 1025;
  SAY(recvmsg(fd, &m, MSG_DONTWAIT));
  m.msg_iovlen = 0;
  SAY(recvmsg(fd, &m, MSG_DONTWAIT));
  SAY(recvmsg(fd, (struct msghdr*)8, MSG_DONTWAIT));
  m.msg_namelen = (socklen_t)-1;
  SAY(recvmsg(fd, &m, MSG_DONTWAIT));
  struct sockaddr_storage from;
  socklen_t n = sizeof from;
  step();
  await_bytes(fd, 3);
  SAY(recvfrom(fd, b, 2, 0, (struct sockaddr*)&from, &n));
  SAY(n);
  struct mmsghdr two[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}}};
  SAY(recvmmsg(fd, two, 2, MSG_DONTWAIT, NULL));
  SAY(two[0].msg_len);
  SAY(recvmmsg(fd, two, 2, MSG_DONTWAIT, NULL));
  SAY(recvmmsg(fd, two, 0, 0, NULL));
  step();
}

static void S10_readv_of_1024(int fd) {
  static struct iovec v[1025];
  static char b[1025 * 3];
  if (!serving) {
    for (size_t i = 0; i < sizeof b; i++) b[i] = (char)('a' + i % 23);
    SAY(write(fd, b, sizeof b));
    step();
    return;
  }
  for (int i = 0; i < 1025; i++) v[i] = (struct iovec){b + 3 * i, 3};
  v[7].iov_len = 0;
  await_bytes(fd, sizeof b);
  SAY(readv(fd, v, 1025));
  SAY(readv(fd, v, -1));
  SAY(readv(fd, (struct iovec*)8, 2));
  SAY(readv(fd, v, 1024));
  SAY(b[18] == 'a' + 18 % 23 && b[24] == 'a' + 21 % 23 && b[1024 * 3 - 1] == (char)('a' + (1023 * 3 - 1) % 23));
  SAY(read(fd, b, sizeof b));
  struct iovec too_long[2] = {{b, SIZE_MAX / 2 + 1}, {b, 1}};
  SAY(readv(fd, too_long, 2));
  step();
}

static void S10_efault(int fd) {
  char b[16];
  struct iovec v[2] = {{b, 5}, {(void*)8, 5}};
  if (!serving) {
    SAY(write(fd, "0123456789", 10));
    step();
    SAY(write(fd, NULL, 5));
    SAY(send(fd, (void*)8, 5, MSG_NOSIGNAL));
    SAY(write(fd, (void*)-4096, 5));
    SAY(writev(fd, v, 2));
    SAY(send(fd, b, SIZE_MAX / 2, MSG_DONTWAIT) < 0);
    SAY(write(fd, "whole", 5));
    step();
    return;
  }
  await_bytes(fd, 10);
  SAY(read(fd, NULL, 5));
  SAY(recv(fd, (void*)8, 5, 0));
  SAY(recv(fd, (void*)-4096, 5, MSG_PEEK));
  SAY(readv(fd, v, 2));
  SAY(read(fd, b, 16)); /* all of it, once */
  step();
  await_bytes(fd, 5);
  SAY(read(fd, b, 16));
  step();
}

static void S9_rcvtimeo(int fd) {
  struct timeval t = {0, 60000}, none = {0, 0}, bad = {0, 1000000};
  char b[8];
  int64_t begin;
  if (!serving) {
    step();
    SAY(write(fd, "abc", 3));
    step();
    return;
  }
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof bad));
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, 4));
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  begin = now_ms();
  SAY(recv(fd, b, 8, 0));
  SAY(now_ms() - begin >= 55);
  SAY(read(fd, b, 8));
  SAY(polled(fd, POLLIN, 10)); /* not poll's affair */
  step();
  await_bytes(fd, 3);
  begin = now_ms();
  SAY(recv(fd, b, 8, MSG_WAITALL));
  SAY(now_ms() - begin >= 55);
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
  step();
}

static long recv_64(int fd) { return sleeper_recv(fd); }

static void S9_rcvlowat(int fd) {
  int lowat = 5;
  char b[16];
  struct sleeper sleeper;
  if (!serving) {
    SAY(write(fd, "abc", 3));
    step();
    SAY(write(fd, "de", 2));
    step();
    SAY(write(fd, "fg", 2));
    step();
    SAY(write(fd, "hij", 3));
    step();
    SAY(write(fd, "k", 1));
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  const int ep = epoll_with(fd, EPOLLIN, 1);
  SAY(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat));
  await_bytes(fd, 3);
  SAY(polled(fd, POLLIN, 0));
  say_events("below", ep, 0);
  SAY(recv(fd, b, 16, MSG_DONTWAIT | MSG_PEEK));
  step();
  await_bytes(fd, 5);
  SAY(polled(fd, POLLIN, 1000));
  say_events("above", ep, 1000);
  SAY(recv(fd, b, 16, 0));
  sleeper_start(&sleeper, recv_64, fd);
  step();
  step();
  sleeper_join("recv", &sleeper); /* five, by two writes */
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  SAY(polled(fd, POLLIN, 0));
  SAY(recv(fd, b, 16, 0));
  close(ep);
  step();
}

static void S15_siocinq(int fd) {
  int n = -1;
  char b[4];
  if (!serving) {
    SAY(write(fd, "abcdef", 6));
    step();
    SAY(shutdown(fd, SHUT_WR));
    step();
    return;
  }
  await_bytes(fd, 6);
  SAY(ioctl(fd, SIOCINQ, &n));
  SAY(n);
  SAY(read(fd, b, 4));
  SAY(ioctl(fd, FIONREAD, &n));
  SAY(n);
  SAY(ioctl(fd, SIOCATMARK, &n));
  SAY(n);
  SAY(ioctl(fd, FIONREAD, NULL));
  step();
  await_state(fd, TCP_CLOSE_WAIT);
  SAY(ioctl(fd, FIONREAD, &n));
  SAY(n);
  SAY(read(fd, b, 4));
  SAY(ioctl(fd, FIONREAD, &n));
  SAY(n);
  SAY(ioctl(listener, FIONREAD, &n));
  SAY(ioctl(listener, SIOCOUTQ, &n));
  step();
}

const struct behaviour receiving[] = {{"S8_peek", S8_peek, CONNECTED},
                                      {"S8_waitall", S8_waitall, CONNECTED},
                                      {"S8_dontwait_and_ends", S8_dontwait_and_ends, CONNECTED},
                                      {"S8_recv_of_nothing_waits", S8_recv_of_nothing_waits, CONNECTED},
                                      {"S8_messages", S8_messages, CONNECTED},
                                      {"S9_rcvtimeo", S9_rcvtimeo, CONNECTED},
                                      {"S9_rcvlowat", S9_rcvlowat, CONNECTED},
                                      {"S10_readv_of_1024", S10_readv_of_1024, CONNECTED},
                                      {"S10_efault", S10_efault, CONNECTED},
                                      {"S15_siocinq", S15_siocinq, CONNECTED},
                                      {0}};
