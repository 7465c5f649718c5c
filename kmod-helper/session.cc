#include "kmod-helper/session.hh"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace ttod {
namespace {

constexpr int kMessagesPerTurn = 16;
constexpr size_t kMaxFds = TTO_HELPER_MAX_BATCH;
constexpr uint32_t kAllRestoreFlags = TTO_RESTORE_SACK | TTO_RESTORE_TIMESTAMPS | TTO_RESTORE_WSCALE;
constexpr uint8_t kMaxWindowScale = 14;  // RFC 7323 section 2.3
constexpr uint32_t kAllHandoverEndFlags = TTO_HANDOVER_NO_PROBE | TTO_HANDOVER_CANCEL;

/// Copies a message into its struct if it has exactly that size.
template <typename T>
bool read_fixed(std::span<const std::byte> message, T& out) {
  if (message.size() != sizeof out) return false;
  std::memcpy(&out, message.data(), sizeof out);
  return true;
}

/// Same for a message that ends with `count` items; its other fields are the caller's to check.
template <typename T>
bool read_batch(std::span<const std::byte> message, T& out, size_t items_offset, size_t item_bytes) {
  if (message.size() < items_offset || message.size() > sizeof out) return false;
  std::memcpy(&out, message.data(), message.size());
  return out.count >= 1 && out.count <= TTO_HELPER_MAX_BATCH && message.size() == items_offset + out.count * item_bytes;
}

struct Received {
  ssize_t bytes = -1;
  int error = 0;
  bool is_whole = true;
  std::vector<Fd> fds;
};

Received receive(int socket, Sender sender, std::span<std::byte> buffer) {
  Received r;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * (kMaxFds + 1))> control;
  iovec piece{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  r.bytes = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (r.bytes < 0) {
    r.error = errno;
    return r;
  }
  r.is_whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      r.fds.push_back(Fd::of_client(fd, sender));
    }
  }
  return r;
}

}  // namespace

Session::Session(SessionHost& host, uint32_t id, Peer peer, Fd socket)
    : host_(host), id_(id), peer_(peer), socket_(std::move(socket)) {}

bool Session::malformed(const char* what) {
  why_ = std::string("malformed message: ") + what;
  refuse(TTO_REFUSED_MALFORMED);
  return false;
}

bool Session::on_readable() {
  std::array<std::byte, TTO_HELPER_MAX_MESSAGE> buffer;
  for (int turn = 0; turn < kMessagesPerTurn; ++turn) {
    Received r = receive(socket_.get(), {peer_.uid, id_}, buffer);
    if (r.bytes < 0) {
      if (r.error == EAGAIN || r.error == EINTR) return true;
      why_ = "receive error " + std::to_string(r.error);
      return false;
    }
    if (r.bytes == 0) return false;
    if (!r.is_whole) return malformed("truncated");
    if (!on_message({buffer.data(), static_cast<size_t>(r.bytes)}, r.fds)) return false;
    if (is_waiting()) return true;
  }
  return true;
}

bool Session::on_message(std::span<const std::byte> message, std::vector<Fd>& fds) {
  tto_helper_header header{};
  request_id_ = 0;
  if (message.size() < sizeof header) return malformed("no header");
  std::memcpy(&header, message.data(), sizeof header);
  if (header.magic != TTO_HELPER_MAGIC) return malformed("magic");
  if (header.bytes != message.size()) return malformed("length");
  if (header.reserved != 0) return malformed("reserved field");
  request_id_ = header.request_id;
  if (!greeted_ && header.type != TTO_HELPER_HELLO) return malformed("no HELLO");
  switch (header.type) {
    case TTO_HELPER_HELLO:
      return on_hello(message, fds);
    case TTO_HELPER_OPEN_PORT:
      return on_open_port(message, fds);
    case TTO_HELPER_LISTEN:
      return on_listen(message, fds);
    case TTO_HELPER_OPEN_FLOWS:
      return on_open_flows(message, fds);
    case TTO_HELPER_LEASE:
      return on_lease(message, fds);
    case TTO_HELPER_RELEASE:
      return on_release(message, fds);
    case TTO_HELPER_HANDOVER:
      return on_handover(message, fds);
    case TTO_HELPER_HANDOVER_END:
      return on_handover_end(message, fds);
    case TTO_HELPER_INJECT:
      return on_inject(message, fds);
    case TTO_HELPER_COUNT:
      return on_count(message, fds);
    default:
      return malformed("unknown type");
  }
}

bool Session::on_hello(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_hello hello{};
  if (!read_fixed(message, hello) || hello.reserved != 0 || !fds.empty()) return malformed("HELLO");
  if (greeted_) return malformed("second HELLO");
  if (hello.version != TTO_HELPER_VERSION) {
    why_ = "protocol version " + std::to_string(hello.version);
    refuse(TTO_REFUSED_VERSION);
    return false;
  }
  greeted_ = true;
  tto_helper_welcome welcome{};
  welcome.version = TTO_HELPER_VERSION;
  welcome.session_id = id_;
  return send(&welcome, sizeof welcome, TTO_HELPER_WELCOME);
}

bool Session::on_open_port(std::span<const std::byte> message, std::vector<Fd>& fds) {
  tto_helper_open_port wish{};
  if (!read_fixed(message, wish) || wish.flags != 0 || fds.size() != 1) return malformed("OPEN_PORT");
  SessionHost::PortAnswer answer = host_.open_port(id_, peer_, wish, std::move(fds[0]));
  if (answer.refusal != TTO_REFUSED_NONE) return refuse(answer.refusal);
  const int passed[] = {answer.xsk.get(), answer.region.get()};
  return send(&answer.port, sizeof answer.port, TTO_HELPER_PORT, passed);
}

bool Session::on_listen(std::span<const std::byte> message, std::vector<Fd>& fds) {
  tto_helper_listen request{};
  if (!read_fixed(message, request) || fds.size() != 1) return malformed("LISTEN");
  return inspect(fds, [this](SessionHost::Sockets sockets) { return answer_listen(std::move(sockets)); });
}

bool Session::answer_listen(SessionHost::Sockets sockets) {
  const tto_helper_grant grant = host_.listen(id_, peer_, std::move(sockets[0]));
  if (grant.grant_id == 0) return refuse(static_cast<tto_helper_refusal>(grant.reason));
  tto_helper_granted granted{};
  granted.count = 1;
  granted.grants[0] = grant;
  return send(&granted, offsetof(tto_helper_granted, grants) + sizeof grant, TTO_HELPER_GRANTED);
}

bool Session::inspect(std::vector<Fd>& fds, WithSockets then) {
  std::optional<SessionHost::Sockets> sockets = host_.inspect(id_, std::move(fds));
  if (sockets) return then(std::move(*sockets));
  waiting_request_ = request_id_;
  then_ = std::move(then);
  return true;
}

bool Session::on_inspected(SessionHost::Sockets sockets) {
  if (!waiting_request_ || !then_) return true;
  request_id_ = *waiting_request_;
  waiting_request_.reset();
  return std::exchange(then_, nullptr)(std::move(sockets));
}

bool Session::on_open_flows(std::span<const std::byte> message, std::vector<Fd>& fds) {
  tto_helper_open_flows request{};
  if (!read_batch(message, request, offsetof(tto_helper_open_flows, flows), sizeof request.flows[0]) ||
      request.reserved != 0 || fds.size() != request.count)
    return malformed("OPEN_FLOWS");
  return inspect(
      fds, [this, request](SessionHost::Sockets sockets) { return answer_open_flows(request, std::move(sockets)); });
}

bool Session::answer_open_flows(const tto_helper_open_flows& request, SessionHost::Sockets sockets) {
  tto_helper_granted granted{};
  granted.count = request.count;
  for (uint32_t i = 0; i < request.count; ++i)
    granted.grants[i] = host_.open_flow(id_, peer_, request.flows[i], std::move(sockets[i]));
  return send(&granted, offsetof(tto_helper_granted, grants) + granted.count * sizeof granted.grants[0],
              TTO_HELPER_GRANTED);
}

bool Session::on_lease(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_lease wish{};
  if (!read_fixed(message, wish) || wish.reserved != 0 || wish.count < 1 || wish.count > TTO_HELPER_MAX_LEASE ||
      !fds.empty())
    return malformed("LEASE");
  tto_helper_leased leased{};
  const tto_helper_refusal refusal = host_.lease(id_, peer_, wish, leased);
  if (refusal != TTO_REFUSED_NONE) return refuse(refusal);
  return send(&leased, offsetof(tto_helper_leased, tuples) + leased.count * sizeof leased.tuples[0],
              TTO_HELPER_LEASED);
}

bool Session::on_release(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_release request{};
  if (!read_batch(message, request, offsetof(tto_helper_release, items), sizeof request.items[0]) ||
      request.wants_answer > 1 || !fds.empty())
    return malformed("RELEASE");
  for (uint32_t i = 0; i < request.count; ++i) host_.release(id_, request.items[i]);
  if (request.wants_answer == 0) return true;
  waiting_release_ = request_id_;
  return answer_release();
}

bool Session::on_handover(std::span<const std::byte> message, std::vector<Fd>& fds) {
  tto_helper_handover request{};
  const tto_helper_restore& restore = request.restore;
  if (!read_fixed(message, request) || fds.size() != 1 || restore.reserved != 0 || restore.reserved1 != 0 ||
      restore.flags > kAllRestoreFlags || restore.snd_wscale > kMaxWindowScale || restore.rcv_wscale > kMaxWindowScale)
    return malformed("HANDOVER");
  return wait_for_handover(host_.begin_handover(id_, peer_, request, std::move(fds[0])), TTO_HELPER_RESTORING);
}

bool Session::on_handover_end(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_handover_end request{};
  if (!read_fixed(message, request) || request.reserved != 0 || request.flags > kAllHandoverEndFlags || !fds.empty())
    return malformed("HANDOVER_END");
  return wait_for_handover(host_.end_handover(id_, peer_, request.handover_id, request.flags), TTO_HELPER_HANDED_OVER);
}

bool Session::wait_for_handover(std::optional<SessionHost::HandoverAnswer> answer, tto_helper_type type) {
  handover_answer_ = type;
  if (answer) return answer_handover(*answer);
  waiting_request_ = request_id_;
  return true;
}

bool Session::on_handover_answer(SessionHost::HandoverAnswer answer) {
  if (!waiting_request_ || then_) return true;
  request_id_ = *waiting_request_;
  waiting_request_.reset();
  return answer_handover(answer);
}

bool Session::answer_handover(const SessionHost::HandoverAnswer& answer) {
  if (answer.refusal != TTO_REFUSED_NONE) return refuse(answer.refusal);
  tto_helper_restoring message{};
  static_assert(sizeof message == sizeof(tto_helper_handed_over));
  message.handover_id = answer.handover_id;
  return send(&message, sizeof message, handover_answer_);
}

bool Session::on_inject(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_inject request;
  constexpr size_t kOffset = offsetof(tto_helper_inject, packet);
  if (message.size() < kOffset || message.size() > sizeof request || !fds.empty()) return malformed("INJECT");
  std::memcpy(&request, message.data(), message.size());
  if (request.reserved != 0 || request.packet_bytes != message.size() - kOffset) return malformed("INJECT");
  host_.inject(id_, request.handover_id, {request.packet, request.packet_bytes});
  return true;
}

bool Session::answer_release() {
  if (!waiting_release_ || !host_.await_closes(id_)) return true;
  request_id_ = *waiting_release_;
  waiting_release_.reset();
  tto_helper_granted closed{};
  return send(&closed, offsetof(tto_helper_granted, grants), TTO_HELPER_GRANTED);
}

bool Session::send(void* message, size_t bytes, tto_helper_type type, std::span<const int> fds) {
  tto_helper_header header{};
  header.magic = TTO_HELPER_MAGIC;
  header.type = static_cast<uint16_t>(type);
  header.request_id = request_id_;
  header.bytes = static_cast<uint32_t>(bytes);
  std::memcpy(message, &header, sizeof header);
  iovec piece{message, bytes};
  msghdr out{};
  out.msg_iov = &piece;
  out.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * 2)> control{};
  if (!fds.empty()) {
    out.msg_control = control.data();
    out.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&out);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  // Never waits: a client that lets its answers pile up is not waited for.
  if (::sendmsg(socket_.get(), &out, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes)) return true;
  why_ = errno == EAGAIN ? "the client does not read its answers" : "send error " + std::to_string(errno);
  return false;
}

bool Session::on_count(std::span<const std::byte> message, const std::vector<Fd>& fds) {
  tto_helper_count request{};
  if (!read_fixed(message, request) || request.reserved != 0 || !fds.empty()) return malformed("COUNT");
  auto counted = host_.counts(peer_, request.pid);
  if (!counted) return refuse(TTO_REFUSED_NOT_OWNER);
  return send(&*counted, sizeof *counted, TTO_HELPER_COUNTED);
}

bool Session::refuse(tto_helper_refusal reason) {
  tto_helper_refused refused{};
  refused.reason = reason;
  return send(&refused, sizeof refused, TTO_HELPER_REFUSED);
}

bool Session::send_event(tto_helper_event event) {
  request_id_ = 0;
  return send(&event, sizeof event, TTO_HELPER_EVENT);
}

}  // namespace ttod
