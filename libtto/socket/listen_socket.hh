// A listening socket's user-space half: half-open connections and those ready for accept(). The kernel half is the
// placeholder, which listens for real; accept() merges both (DESIGN 2.1). All calls under the stack's lock.
#pragma once

#include <cstdint>

#include "libtto/socket/readiness.hh"
#include "libtto/wire/address.hh"

namespace tto::stack {
class Stack;
}

namespace tto::socket {

class StreamSocket;

class ListenSocket {
 public:
  /// The next established connection, or null. It counts as accepted from here on.
  StreamSocket* accept();
  Readiness& readiness() { return readiness_; }  // EPOLLIN while accept() would return something
  void set_backlog(int backlog);
  uint32_t ready_count() const { return ready_count_; }

 private:
  friend class stack::Stack;
  Readiness readiness_;
  uint32_t ready_count_ = 0;
  int backlog_ = 0;
};

}  // namespace tto::socket
