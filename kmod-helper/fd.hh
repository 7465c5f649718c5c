// A descriptor that closes itself.
#pragma once

#include <unistd.h>

#include <utility>

#include "kmod-helper/closer.hh"

namespace ttod {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  /// One that a client sent: closing it may wait for that client, so it is closed aside.
  static Fd of_client(int fd, Sender sender) {
    Fd received(fd);
    received.is_own_ = false;
    received.sender_ = sender;
    return received;
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)), is_own_(other.is_own_), sender_(other.sender_) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this == &other) return *this;
    reset(std::exchange(other.fd_, -1));
    is_own_ = other.is_own_;
    sender_ = other.sender_;
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0 && is_own_) ::close(fd_);
    if (fd_ >= 0 && !is_own_) close_aside(fd_, sender_);
    fd_ = fd;
    is_own_ = true;
  }

 private:
  int fd_ = -1;
  bool is_own_ = true;
  Sender sender_;  // unless it is our own
};

}  // namespace ttod
