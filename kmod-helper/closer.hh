// Closing what clients send, without waiting for them. The last close of a socket that lingers, or of a file of a file
// system that a process serves, takes as long as its owner likes; so it is done on threads of its own, a few for each
// user: who keeps his own busy waits for himself only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ttod {

void close_aside(int fd, uint32_t uid);
/// Descriptors of this user that are not closed yet.
size_t closes_pending(uint32_t uid);

}  // namespace ttod
