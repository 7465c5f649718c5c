#include "libtto/base/sys.hh"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

namespace tto {
namespace {

TEST(Sys, errors__come_back_negative_and_leave_errno_alone) {
  errno = 1234;
  char c;
  EXPECT_EQ(sys::read(-1, &c, 1), -EBADF);
  EXPECT_EQ(sys::close(-1), -EBADF);
  EXPECT_EQ(sys::openat(AT_FDCWD, "/nonexistent/file", O_RDONLY), -ENOENT);
  EXPECT_EQ(errno, 1234);
}

TEST(Sys, memory__maps_a_memfd_and_reports_failures) {
  const int fd = sys::memfd_create("sys-test", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(sys::ftruncate(fd, 4096), 0);
  void* at = sys::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_FALSE(sys::is_error(at));
  std::memcpy(at, "hello", 5);
  char text[5];
  EXPECT_EQ(sys::pread(fd, text, 5, 0), 5);
  EXPECT_EQ(std::memcmp(text, "hello", 5), 0);
  struct stat st;
  EXPECT_EQ(sys::fstat(fd, &st), 0);
  EXPECT_EQ(st.st_size, 4096);
  EXPECT_EQ(sys::munmap(at, 4096), 0);
  EXPECT_EQ(sys::close(fd), 0);
  void* bad = sys::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, -1, 0);
  ASSERT_TRUE(sys::is_error(bad));
  EXPECT_EQ(sys::error_of(bad), EBADF);
}

TEST(Sys, sockets__connect_accept_and_six_argument_calls) {
  const int listener = sys::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(listener, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(sys::bind(listener, &address, sizeof(address)), 0);
  ASSERT_EQ(sys::listen(listener, 1), 0);
  socklen_t bytes = sizeof(address);
  ASSERT_EQ(sys::getsockname(listener, &address, &bytes), 0);
  const int client = sys::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(sys::connect(client, &address, sizeof(address)), 0);
  const int server = sys::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  ASSERT_GE(server, 0);
  EXPECT_EQ(sys::sendto(client, "abc", 3, 0, nullptr, 0), 3);
  pollfd p{server, POLLIN, 0};
  timespec limit{5, 0};
  ASSERT_EQ(sys::ppoll(&p, 1, &limit, nullptr), 1);
  char data[8];
  EXPECT_EQ(sys::recvfrom(server, data, sizeof(data), 0, nullptr, nullptr), 3);
  EXPECT_EQ(sys::recvfrom(server, data, sizeof(data), 0, nullptr, nullptr), -EAGAIN);
  int type = 0;
  bytes = sizeof(type);
  EXPECT_EQ(sys::getsockopt(server, SOL_SOCKET, SO_TYPE, &type, &bytes), 0);
  EXPECT_EQ(type, SOCK_STREAM);
  for (int fd : {listener, client, server}) EXPECT_EQ(sys::close(fd), 0);
}

TEST(Sys, epoll__reports_an_eventfd) {
  const int event = sys::eventfd2(1, EFD_CLOEXEC);
  const int epoll = sys::epoll_create1(EPOLL_CLOEXEC);
  epoll_event wanted{}, got{};
  wanted.events = EPOLLIN;
  wanted.data.u64 = 42;
  ASSERT_EQ(sys::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted), 0);
  EXPECT_EQ(sys::epoll_pwait(epoll, &got, 1, 0, nullptr), 1);
  EXPECT_EQ(got.data.u64, 42u);
  const timespec none{0, 0};
  got = {};
  EXPECT_EQ(sys::epoll_pwait2(epoll, &got, 1, &none, nullptr), 1);
  EXPECT_EQ(got.data.u64, 42u);
  sys::close(event);
  sys::close(epoll);
}

TEST(Sys, processes__agree_with_libc) {
  EXPECT_EQ(sys::getpid(), ::getpid());
  EXPECT_EQ(sys::gettid(), ::gettid());
  timespec t{};
  EXPECT_EQ(sys::clock_gettime(CLOCK_MONOTONIC, &t), 0);
  EXPECT_GT(t.tv_sec + t.tv_nsec, 0);
  uint32_t word = 5;
  EXPECT_EQ(sys::futex(&word, FUTEX_WAIT_PRIVATE, 6), -EAGAIN);
}

}  // namespace
}  // namespace tto
