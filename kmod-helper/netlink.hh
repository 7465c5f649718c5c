// Netlink, as much as ttod needs: build a request, wait for its answer, walk dumps and notifications.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kmod-helper/fd.hh"

namespace ttod {

class NetlinkRequest {
 public:
  NetlinkRequest(uint16_t type, uint16_t flags);

  template <typename T>
  NetlinkRequest& body(const T& fixed) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(&fixed, sizeof fixed);
    return *this;
  }
  NetlinkRequest& attribute(uint16_t type, const void* data, size_t bytes);
  template <typename T>
  NetlinkRequest& value(uint16_t type, const T& data) {
    static_assert(std::is_trivially_copyable_v<T>);
    return attribute(type, &data, sizeof data);
  }
  NetlinkRequest& text(uint16_t type, std::string_view text);  // with its terminating zero
  /// Returns a mark for end().
  size_t begin(uint16_t type);
  void end(size_t mark);

  std::vector<std::byte>& finish(uint32_t sequence);

 private:
  void append(const void* data, size_t bytes);
  std::vector<std::byte> bytes_;
};

/// The attributes of a message, by type; absent ones are null. Later duplicates win.
class NetlinkAttributes {
 public:
  static constexpr size_t kMax = 128;
  NetlinkAttributes(const void* first, size_t bytes);
  /// Of a message whose fixed body has `body_bytes`.
  NetlinkAttributes(const nlmsghdr* message, size_t body_bytes);
  const rtattr* find(uint16_t type) const { return type < kMax ? at_[type] : nullptr; }
  NetlinkAttributes nested(uint16_t type) const;
  bool has(uint16_t type) const { return find(type) != nullptr; }
  /// Null unless the attribute has at least `bytes`.
  const void* data(uint16_t type, size_t bytes) const;
  uint32_t u32(uint16_t type, uint32_t otherwise) const;
  uint8_t u8(uint16_t type, uint8_t otherwise) const;
  std::string_view text(uint16_t type) const;

 private:
  const rtattr* at_[kMax] = {};
};

class NetlinkSocket {
 public:
  using OnMessage = std::function<void(const nlmsghdr*)>;

  /// Opens in the calling thread's namespace. Returns 0 or an errno.
  int open(int protocol, uint32_t groups = 0);
  int fd() const { return fd_.get(); }
  bool is_open() const { return static_cast<bool>(fd_); }
  /// Sends and waits for the acknowledgement; returns 0 or an errno.
  int request(NetlinkRequest& request);
  /// Sends a dump or get and hands every answer to `on_message`; returns 0 or an errno.
  int dump(NetlinkRequest& request, const OnMessage& on_message);
  /// Takes what arrived on subscribed groups, never blocks. False: messages were lost, read everything again.
  bool take_notifications(const OnMessage& on_message);

 private:
  int exchange(NetlinkRequest& request, const OnMessage& on_message, bool is_dump);
  Fd fd_;
  uint32_t sequence_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace ttod
