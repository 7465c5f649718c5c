// Just enough of rtnetlink: requests with attributes, answers and dumps, notifications. Raw system calls. The kernel
// queues the answer to a request, and the first part of a dump, before the request's system call returns, so
// receiving never waits.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace tto::control {

/// A request of at most 256 bytes: header, body, attributes.
class NetlinkRequest {
 public:
  template <typename Body>
  NetlinkRequest(uint16_t type, uint16_t flags, const Body& body) {
    header_.nlmsg_type = type;
    header_.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    append(&body, sizeof(body));
  }
  void add(uint16_t type, const void* data, size_t bytes) {
    const rtattr attribute{static_cast<uint16_t>(sizeof(rtattr) + bytes), type};
    append(&attribute, sizeof(attribute));
    append(data, bytes);
  }
  void add(uint16_t type, uint32_t value) { add(type, &value, sizeof(value)); }
  /// The finished message.
  std::span<const uint8_t> bytes(uint32_t sequence) {
    header_.nlmsg_len = static_cast<uint32_t>(length_);
    header_.nlmsg_seq = sequence;
    std::memcpy(bytes_.data(), &header_, sizeof(header_));
    return {bytes_.data(), length_};
  }

 private:
  void append(const void* data, size_t bytes) {
    if (length_ + bytes > bytes_.size()) return;
    std::memcpy(&bytes_[length_], data, bytes);
    length_ = NLMSG_ALIGN(length_ + bytes);
  }

  nlmsghdr header_{};
  std::array<uint8_t, 256> bytes_{};
  size_t length_ = sizeof(nlmsghdr);
};

struct NetlinkMessage {
  nlmsghdr header{};
  std::span<const uint8_t> body;  // behind the header

  /// The fixed struct at the start of the body; zeros if the body is shorter.
  template <typename T>
  T fixed() const {
    T value{};
    if (body.size() >= sizeof(T)) std::memcpy(&value, body.data(), sizeof(T));
    return value;
  }
};

/// The attributes of a message by type; of a repeated one the last.
class Attributes {
 public:
  explicit Attributes(std::span<const uint8_t> bytes);
  /// Those behind a body that starts with a T.
  template <typename T>
  static Attributes behind(const NetlinkMessage& message) {
    const size_t skip = NLMSG_ALIGN(sizeof(T));
    return Attributes(message.body.size() > skip ? message.body.subspan(skip) : std::span<const uint8_t>{});
  }
  std::span<const uint8_t> get(size_t type) const {
    return type < found_.size() ? found_[type] : std::span<const uint8_t>{};
  }
  bool has(size_t type) const { return get(type).data() != nullptr; }
  uint32_t u32(size_t type, uint32_t otherwise = 0) const;
  uint16_t u16(size_t type, uint16_t otherwise = 0) const;

 private:
  std::array<std::span<const uint8_t>, 64> found_{};
};

class NetlinkSocket {
 public:
  NetlinkSocket() = default;
  ~NetlinkSocket();
  NetlinkSocket(const NetlinkSocket&) = delete;
  NetlinkSocket& operator=(const NetlinkSocket&) = delete;

  /// Opens in the calling thread's network namespace and joins `groups` (RTNLGRP_*). Returns 0 or -errno.
  int open(std::span<const int> groups);
  void close();
  int fd() const { return fd_; }

  /// Takes one datagram if there is one and calls `f(const NetlinkMessage&)` for each message in it. Returns the number
  /// of bytes, -EAGAIN if there was none, or another -errno (-ENOBUFS: messages were lost).
  template <typename F>
  long receive(F&& f) {
    const long bytes = receive_datagram();
    if (bytes > 0) walk(static_cast<size_t>(bytes), f);
    return bytes;
  }

  /// Sends and calls `f` for each answer up to the end of the dump or the acknowledgement. Returns 0 or -errno, the
  /// kernel's own included; -EINTR: a dump was inconsistent, ask again.
  template <typename F>
  int ask(NetlinkRequest& request, F&& f) {
    int result = send(request.bytes(++sequence_));
    bool is_done = false, is_torn = false;
    while (result == 0 && !is_done) {
      const long bytes = receive([&](const NetlinkMessage& m) {
        if (m.header.nlmsg_seq != sequence_ || is_done) return;
        if ((m.header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) is_torn = true;
        if (m.header.nlmsg_type == NLMSG_ERROR || m.header.nlmsg_type == NLMSG_DONE) {
          result = m.fixed<int>();  // both start with an error number, 0 or negative
          is_done = true;
          return;
        }
        f(m);
        is_done = (m.header.nlmsg_flags & NLM_F_MULTI) == 0;
      });
      if (bytes < 0) return static_cast<int>(bytes);
    }
    return result == 0 && is_torn ? -EINTR : result;
  }

 private:
  int send(std::span<const uint8_t> message);
  long receive_datagram();
  template <typename F>
  void walk(size_t bytes, F&& f) {
    size_t at = 0;
    while (bytes - at >= sizeof(nlmsghdr)) {
      NetlinkMessage message;
      std::memcpy(&message.header, &buffer_[at], sizeof(nlmsghdr));
      const size_t length = message.header.nlmsg_len;
      if (length < sizeof(nlmsghdr) || length > bytes - at) return;
      message.body = {&buffer_[at + sizeof(nlmsghdr)], length - sizeof(nlmsghdr)};
      f(message);
      at += NLMSG_ALIGN(length);
      if (at > bytes) return;
    }
  }

  int fd_ = -1;
  uint32_t sequence_ = 0;
  std::vector<uint8_t> buffer_;
};

}  // namespace tto::control
