// A descriptor that closes itself.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <utility>

#include "kmod-helper/closer.hh"

namespace ttod {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  /// One that a client sent: closing it may wait for that client, so it is closed aside.
  static Fd of_client(int fd, uint32_t uid) {
    Fd received(fd);
    received.uid_ = uid;
    return received;
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)), uid_(other.uid_) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this == &other) return *this;
    reset(std::exchange(other.fd_, -1));
    uid_ = other.uid_;
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0 && uid_ == kOwn) ::close(fd_);
    if (fd_ >= 0 && uid_ != kOwn) close_aside(fd_, static_cast<uint32_t>(uid_));
    fd_ = fd;
    uid_ = kOwn;
  }

 private:
  static constexpr int64_t kOwn = -1;

  int fd_ = -1;
  int64_t uid_ = kOwn;  // of the client that sent it
};

}  // namespace ttod
