/* One connection, both ways at once, every byte foreseeable and checked:
 *
 *   byte_stream serve|call ADDRESS PORT BYTES SEED
 *
 * Sends BYTES of its own stream while it receives as many of the peer's, then FIN, then awaits the peer's FIN. Prints what
 * came: "received N bytes, M wrong, first at K". Status 0 if all came and none was wrong; 3 if some were wrong; 1 with
 * the error otherwise. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kBlock = 64 * 1024 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t word_at(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* The stream's block that begins at `offset`, a multiple of 8. */
static void fill(uint8_t *out, uint64_t seed, uint64_t offset) {
  for (int i = 0; i < kBlock / 8; ++i) {
    uint64_t word = word_at(seed, offset / 8 + (uint64_t)i);
    memcpy(out + i * 8, &word, 8);
  }
}

/* One direction: where it is, and the block of its stream there. */
struct stream {
  uint64_t seed, offset, bytes;
  uint64_t wrong, first_wrong;
  uint8_t block[kBlock];
};

static void begin(struct stream *s, uint64_t seed, uint64_t bytes) {
  *s = (struct stream){.seed = seed, .bytes = bytes};
  fill(s->block, seed, 0);
}

static size_t in_block(const struct stream *s, size_t limit) {
  size_t n = kBlock - s->offset % kBlock;
  if (n > s->bytes - s->offset) n = s->bytes - s->offset;
  return n < limit ? n : limit;
}

static void advance(struct stream *s, size_t n) {
  s->offset += n;
  if (n > 0 && s->offset % kBlock == 0) fill(s->block, s->seed, s->offset);
}

static void check(struct stream *s, const uint8_t *got, size_t bytes) {
  while (bytes > 0) {
    size_t n = in_block(s, bytes);
    const uint8_t *wanted = s->block + s->offset % kBlock;
    if (n == 0) {
      fprintf(stderr, "%zu bytes too many\n", bytes);
      exit(1);
    }
    for (size_t i = 0; memcmp(got, wanted, n) != 0 && i < n; ++i) {
      if (got[i] == wanted[i]) continue;
      if (s->wrong++ == 0) s->first_wrong = s->offset + i;
    }
    advance(s, n);
    got += n;
    bytes -= n;
  }
}

static int open_connection(char **argv) {
  struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *address;
  if (getaddrinfo(argv[2], argv[3], &hint, &address) != 0) die(argv[2]);
  int fd = socket(address->ai_family, SOCK_STREAM, 0), one = 1;
  if (strcmp(argv[1], "call") == 0) {
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) die("connect");
    return fd;
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, 8) != 0) die("listen");
  int accepted = accept(fd, NULL, NULL);
  if (accepted < 0) die("accept");
  close(fd);
  return accepted;
}

static void send_some(int fd, struct stream *out) {
  if (out->offset < out->bytes) {
    ssize_t n = send(fd, out->block + out->offset % kBlock, in_block(out, kBlock), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) die("send");
    if (n > 0) advance(out, (size_t)n);
  }
  if (out->offset == out->bytes && shutdown(fd, SHUT_WR) != 0) die("shutdown");
}

int main(int argc, char **argv) {
  static struct stream out, in;
  static uint8_t buffer[kBlock];
  if (argc != 6 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "call") != 0)) {
    fprintf(stderr, "usage: %s serve|call ADDRESS PORT BYTES SEED\n", argv[0]);
    return 2;
  }
  uint64_t bytes = strtoull(argv[4], NULL, 0), seed = strtoull(argv[5], NULL, 0);
  int serves = strcmp(argv[1], "serve") == 0;
  begin(&out, serves ? seed : ~seed, bytes);
  begin(&in, serves ? ~seed : seed, bytes);
  int fd = open_connection(argv);
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
  int sending = 1, receiving = 1;
  if (bytes == 0) send_some(fd, &out), sending = 0;
  while (sending || receiving) {
    struct pollfd ready = {.fd = fd, .events = (short)((sending ? POLLOUT : 0) | (receiving ? POLLIN : 0))};
    if (poll(&ready, 1, -1) < 0) die("poll");
    if (sending && (ready.revents & (POLLOUT | POLLERR | POLLHUP))) {
      send_some(fd, &out);
      sending = out.offset < out.bytes;
    }
    if (receiving && (ready.revents & (POLLIN | POLLERR | POLLHUP))) {
      ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n < 0 && errno != EAGAIN) die("recv");
      if (n > 0) check(&in, buffer, (size_t)n);
      receiving = n != 0;
    }
  }
  /* What is unacknowledged at the end would be handed over to the kernel, which sends it with another checksum. */
  for (int left = 1, n = 0; left > 0 && n < 5000; n++) {
    if (ioctl(fd, SIOCOUTQ, &left) != 0) die("SIOCOUTQ");
    if (left > 0) usleep(1000);
  }
  printf("received %llu bytes, %llu wrong, first at %llu\n", (unsigned long long)in.offset, (unsigned long long)in.wrong,
         (unsigned long long)in.first_wrong);
  if (in.offset != bytes) {
    fprintf(stderr, "the stream ended %llu bytes early\n", (unsigned long long)(bytes - in.offset));
    return 1;
  }
  return in.wrong > 0 ? 3 : 0;
}
