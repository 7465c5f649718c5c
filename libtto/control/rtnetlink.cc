#include "libtto/control/rtnetlink.hh"

#include "libtto/base/fd_map.hh"
#include "libtto/base/sys.hh"

namespace tto::control {
namespace {

constexpr size_t kBufferBytes = 65536;           // more than the kernel ever puts into one datagram of a dump
constexpr int kReceiveQueueBytes = 1024 * 1024;  // notifications that may wait; beyond it: ENOBUFS and a new dump

}  // namespace

Attributes::Attributes(std::span<const uint8_t> bytes) {
  while (bytes.size() >= sizeof(rtattr)) {
    rtattr header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.rta_len < sizeof(rtattr) || header.rta_len > bytes.size()) return;
    const size_t type = header.rta_type & NLA_TYPE_MASK;
    if (type < found_.size()) found_[type] = bytes.subspan(sizeof(rtattr), header.rta_len - sizeof(rtattr));
    const size_t step = RTA_ALIGN(header.rta_len);
    if (step >= bytes.size()) return;
    bytes = bytes.subspan(step);
  }
}

uint32_t Attributes::u32(size_t type, uint32_t otherwise) const {
  const auto data = get(type);
  if (data.size() < sizeof(otherwise)) return otherwise;
  std::memcpy(&otherwise, data.data(), sizeof(otherwise));
  return otherwise;
}

uint16_t Attributes::u16(size_t type, uint16_t otherwise) const {
  const auto data = get(type);
  if (data.size() < sizeof(otherwise)) return otherwise;
  std::memcpy(&otherwise, data.data(), sizeof(otherwise));
  return otherwise;
}

NetlinkSocket::~NetlinkSocket() { close(); }

int NetlinkSocket::open(std::span<const int> groups) {
  close();
  buffer_.resize(kBufferBytes);
  fd_ = make_internal_fd(sys::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (fd_ < 0) return fd_;
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  int result = sys::bind(fd_, &self, sizeof(self));
  for (const int group : groups) {
    if (result != 0) break;
    result = sys::setsockopt(fd_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
  }
  if (result != 0) {
    close();
    return result;
  }
  // A smaller queue only means more dumps.
  (void)sys::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &kReceiveQueueBytes, sizeof(kReceiveQueueBytes));
  return 0;
}

void NetlinkSocket::close() {
  if (fd_ >= 0) close_internal_fd(fd_);
  fd_ = -1;
}

int NetlinkSocket::send(std::span<const uint8_t> message) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  long sent;
  do {
    sent = sys::sendto(fd_, message.data(), message.size(), 0, &kernel, sizeof(kernel));
  } while (sent == -EINTR);
  return sent < 0 ? static_cast<int>(sent) : 0;
}

long NetlinkSocket::receive_datagram() {
  for (;;) {
    sockaddr_nl from{};
    iovec piece{buffer_.data(), buffer_.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const long bytes = sys::recvmsg(fd_, &message, MSG_DONTWAIT);
    if (bytes == -EINTR) continue;
    if (bytes < 0) return bytes;
    if (from.nl_pid != 0) continue;  // only the kernel is believed
    if ((message.msg_flags & MSG_TRUNC) != 0) return -ENOBUFS;
    return bytes > 0 ? bytes : -EAGAIN;
  }
}

}  // namespace tto::control
