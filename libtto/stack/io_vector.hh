// An application's iovec array: checked as the kernel's import of it, walked a window at a time.
#pragma once

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

namespace tto::stack {

/// No such range in user memory. (A hole inside the process's own address space is not found: docs/support.md.)
inline bool is_bad_range(const void* p, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(p);
  constexpr uintptr_t kUserEnd = uintptr_t{1} << 47;
  return bytes != 0 && (begin < 4096 || begin >= kUserEnd || kUserEnd - begin < bytes);
}

/// Bytes the vector asks for, at most what one system call moves; -EINVAL or -EFAULT.
inline ssize_t vector_bytes(const iovec* iov, int count) {
  constexpr uint64_t kMaxTransfer = 0x7ffff000;
  uint64_t total = 0;
  for (int i = 0; i < count; ++i) {
    if (static_cast<ssize_t>(iov[i].iov_len) < 0) return -EINVAL;
    if (is_bad_range(iov[i].iov_base, iov[i].iov_len)) return -EFAULT;
    total += iov[i].iov_len;
  }
  return static_cast<ssize_t>(total < kMaxTransfer ? total : kMaxTransfer);
}

/// What the kernel says of a message before it looks at the socket. The vector itself: vector_bytes().
inline int check_message(const msghdr* message) {
  if (is_bad_range(message, sizeof *message)) return -EFAULT;
  if (message->msg_name != nullptr && static_cast<int>(message->msg_namelen) < 0) return -EINVAL;
  if (message->msg_iovlen > 1024) return -EMSGSIZE;
  return is_bad_range(message->msg_iov, message->msg_iovlen * sizeof(iovec)) ? -EFAULT : 0;
}

/// The part of a vector behind its first `skip` bytes, at most kPieces of it.
struct VectorWindow {
  static constexpr int kPieces = 16;
  iovec pieces[kPieces];
  int count = 0;
  uint64_t bytes = 0;
  bool has_more = false;  // pieces beyond the window

  VectorWindow(const iovec* iov, int total, uint64_t skip) {
    int i = 0;
    while (i < total && skip >= iov[i].iov_len) skip -= iov[i++].iov_len;
    for (; i < total && count < kPieces; ++i, skip = 0) {
      pieces[count] = {static_cast<char*>(iov[i].iov_base) + skip, iov[i].iov_len - skip};
      bytes += pieces[count++].iov_len;
    }
    has_more = i < total;
  }
};

}  // namespace tto::stack
