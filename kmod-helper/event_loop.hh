// One thread, one epoll set, a handler per descriptor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "kmod-helper/fd.hh"

namespace ttod {

class EventLoop {
 public:
  using Handler = std::function<void(uint32_t events)>;
  EventLoop();
  /// The descriptor stays the caller's; it must be forgotten before it is closed.
  void watch(int fd, Handler handler);
  void forget(int fd);
  /// Waits at most `timeout_ms`, then runs the handlers that are due. A handler may watch and forget anything. Returns
  /// how many descriptors were due.
  int run_once(int timeout_ms);

 private:
  struct Watch {
    uint64_t serial;
    Handler handler;
  };
  Fd epoll_;
  uint64_t next_serial_ = 1;
  std::map<int, Watch> watches_;
};

}  // namespace ttod
