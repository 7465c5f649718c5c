#include "kmod-helper/netlink.hh"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>

namespace ttod {

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags) {
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
  append(&header, sizeof header);
}

void NetlinkRequest::append(const void* data, size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), from, from + bytes);
  bytes_.resize((bytes_.size() + 3) & ~size_t{3});
}

NetlinkRequest& NetlinkRequest::attribute(uint16_t type, const void* data, size_t bytes) {
  rtattr header{};
  header.rta_type = type;
  header.rta_len = static_cast<uint16_t>(sizeof header + bytes);
  append(&header, sizeof header);
  append(data, bytes);
  return *this;
}

NetlinkRequest& NetlinkRequest::text(uint16_t type, std::string_view text) {
  std::vector<char> terminated(text.begin(), text.end());
  terminated.push_back('\0');
  return attribute(type, terminated.data(), terminated.size());
}

size_t NetlinkRequest::begin(uint16_t type) {
  const size_t mark = bytes_.size();
  attribute(type, nullptr, 0);
  return mark;
}

void NetlinkRequest::end(size_t mark) {
  const auto bytes = static_cast<uint16_t>(bytes_.size() - mark);
  std::memcpy(bytes_.data() + mark, &bytes, sizeof bytes);
}

std::vector<std::byte>& NetlinkRequest::finish(uint32_t sequence) {
  nlmsghdr header{};
  std::memcpy(&header, bytes_.data(), sizeof header);
  header.nlmsg_len = static_cast<uint32_t>(bytes_.size());
  header.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &header, sizeof header);
  return bytes_;
}

NetlinkAttributes::NetlinkAttributes(const void* first, size_t bytes) {
  const auto* at = static_cast<const rtattr*>(first);
  auto left = static_cast<int>(bytes);
  while (RTA_OK(at, left)) {
    const uint16_t type = at->rta_type & NLA_TYPE_MASK;
    if (type < kMax) at_[type] = at;
    at = RTA_NEXT(at, left);
  }
}

NetlinkAttributes::NetlinkAttributes(const nlmsghdr* message, size_t body_bytes)
    : NetlinkAttributes(reinterpret_cast<const std::byte*>(message) + NLMSG_HDRLEN + NLMSG_ALIGN(body_bytes),
                        message->nlmsg_len > NLMSG_HDRLEN + NLMSG_ALIGN(body_bytes)
                            ? message->nlmsg_len - NLMSG_HDRLEN - NLMSG_ALIGN(body_bytes)
                            : 0) {}

NetlinkAttributes NetlinkAttributes::nested(uint16_t type) const {
  const rtattr* at = find(type);
  if (at == nullptr) return {static_cast<const void*>(nullptr), size_t{0}};
  return {static_cast<const void*>(RTA_DATA(at)), static_cast<size_t>(RTA_PAYLOAD(at))};
}

const void* NetlinkAttributes::data(uint16_t type, size_t bytes) const {
  const rtattr* at = find(type);
  return at != nullptr && RTA_PAYLOAD(at) >= bytes ? RTA_DATA(at) : nullptr;
}

uint32_t NetlinkAttributes::u32(uint16_t type, uint32_t otherwise) const {
  const void* at = data(type, 4);
  if (at != nullptr) std::memcpy(&otherwise, at, 4);
  return otherwise;
}

uint8_t NetlinkAttributes::u8(uint16_t type, uint8_t otherwise) const {
  const void* at = data(type, 1);
  if (at != nullptr) std::memcpy(&otherwise, at, 1);
  return otherwise;
}

std::string_view NetlinkAttributes::text(uint16_t type) const {
  const rtattr* at = find(type);
  if (at == nullptr) return {};
  const auto* characters = static_cast<const char*>(RTA_DATA(at));
  return {characters, strnlen(characters, RTA_PAYLOAD(at))};
}

int NetlinkSocket::open(int protocol, uint32_t groups) {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) return errno;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return errno;
  const int receive_bytes = 1 << 20;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes);
  const timeval limit{2, 0};  // the kernel answers within the send; this only bounds a surprise
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  fd_ = std::move(fd);
  return 0;
}

int NetlinkSocket::exchange(NetlinkRequest& request, const OnMessage& on_message, bool is_dump) {
  const uint32_t sequence = ++sequence_;
  const std::vector<std::byte>& bytes = request.finish(sequence);
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return errno;
  buffer_.resize(65536);
  for (;;) {
    const ssize_t got = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    auto left = static_cast<unsigned>(got);
    for (auto* m = reinterpret_cast<const nlmsghdr*>(buffer_.data()); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
      if (m->nlmsg_seq != sequence) continue;
      if (m->nlmsg_type == NLMSG_DONE) return 0;
      if (m->nlmsg_type == NLMSG_ERROR) return -static_cast<const nlmsgerr*>(NLMSG_DATA(m))->error;
      if (on_message) on_message(m);
      if (!is_dump && (m->nlmsg_flags & NLM_F_MULTI) == 0 && on_message) return 0;
    }
  }
}

int NetlinkSocket::request(NetlinkRequest& request) { return exchange(request, nullptr, false); }

int NetlinkSocket::dump(NetlinkRequest& request, const OnMessage& on_message) {
  return exchange(request, on_message, true);
}

bool NetlinkSocket::take_notifications(const OnMessage& on_message) {
  alignas(nlmsghdr) std::array<std::byte, 32768> buffer;
  for (;;) {
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno != ENOBUFS;
    }
    auto left = static_cast<unsigned>(got);
    for (auto* m = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left))
      on_message(m);
  }
}

}  // namespace ttod
