// Closing what clients send, without waiting for them. The last close of a socket that lingers, or of a file of a file
// system that a process serves, takes as long as its owner likes; so it is done on threads of its own, at most two for
// each user: who keeps his own busy waits for himself only. The threads are started before ttod gives up the right to
// start any, and live as long as it does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ttod {

/// Who sent a descriptor.
struct Sender {
  uint32_t uid = 0;
  uint32_t session = 0;
};

/// Once, when capabilities are dropped and system calls are not confined yet. Throws std::system_error.
void start_closer();
/// Closes at once, and may wait, where start_closer() was not called.
void close_aside(int fd, Sender sender);
/// Descriptors of this user that are not closed yet.
size_t closes_pending(uint32_t uid);
/// True: nothing of this session is left to be closed. False: closes_done_fd() becomes readable when that is so.
bool await_closes(uint32_t session);
/// An eventfd, for the whole life of the process; -1 if it could not be made. Whoever watches it reads it.
int closes_done_fd();

}  // namespace ttod
