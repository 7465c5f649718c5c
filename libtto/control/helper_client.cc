#include "libtto/control/helper_client.hh"

#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "libtto/base/fd_map.hh"
#include "libtto/base/sys.hh"

namespace tto::control {
namespace {

// ttod answers in well under a millisecond, or in some tens if it has to make a port first. Who waits longer than this
// waits for a helper that is stuck, and goes on without.
constexpr int64_t kAnswerMs = 2000;
// A close() waits no longer than this for the port to be free.
constexpr int64_t kReleaseMs = 100;
constexpr int64_t kMillisecondNs = 1'000'000;

constexpr size_t kGrantsOffset = offsetof(tto_helper_granted, grants);
constexpr size_t kFlowsOffset = offsetof(tto_helper_open_flows, flows);
constexpr size_t kTuplesOffset = offsetof(tto_helper_leased, tuples);
constexpr size_t kPacketOffset = offsetof(tto_helper_inject, packet);
constexpr size_t kItemsOffset = offsetof(tto_helper_release, items);

int64_t now_ns() {
  timespec now{};
  sys::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// 1: ready; 0: not within the time left.
int wait_until(int fd, short events, int64_t deadline_ns) {
  for (;;) {
    const int64_t left = deadline_ns - now_ns();
    if (left <= 0) return 0;
    pollfd one{fd, events, 0};
    timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
    const int ready = sys::ppoll(&one, 1, &timeout, nullptr);
    if (ready != -EINTR) return ready > 0 ? 1 : 0;
  }
}

}  // namespace

struct HelperClient::Answer {
  tto_helper_header header{};
  size_t bytes = 0;
  int fds[2] = {-1, -1};
  size_t fd_count = 0;
  union Body {
    tto_helper_welcome welcome;
    tto_helper_refused refused;
    tto_helper_port port;
    tto_helper_granted granted;
    tto_helper_event event;
    tto_helper_leased leased;
    tto_helper_restoring restoring;
    tto_helper_handed_over handed_over;
    std::byte raw[TTO_HELPER_MAX_MESSAGE];
  } body;

  Answer() { std::memset(&body, 0, sizeof body); }
  void close_fds() {
    for (size_t i = 0; i < fd_count; ++i) sys::close(fds[i]);
    fd_count = 0;
  }
};

HelperClient::~HelperClient() { lose(); }

void HelperClient::lose() {
  if (fd_ >= 0) close_internal_fd(fd_);
  fd_ = -1;
  pending_.count = 0;
}

void HelperClient::abandon() { lose(); }

int HelperClient::connect(const char* path) {
  lose();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path, length);
  const int made = sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return -made;
  const int fd = make_internal_fd(made);
  if (fd < 0) return -fd;
  const int status = sys::connect(fd, &address, sizeof address);
  if (status < 0) {
    close_internal_fd(fd);
    return -status;
  }
  fd_ = fd;
  tto_helper_hello hello{};
  hello.version = TTO_HELPER_VERSION;
  Answer answer;
  if (!send(&hello, sizeof hello, TTO_HELPER_HELLO, {}) || !wait_answer(answer)) return ECONNREFUSED;
  answer.close_fds();
  if (answer.header.type == TTO_HELPER_WELCOME && answer.bytes == sizeof answer.body.welcome &&
      answer.body.welcome.version == TTO_HELPER_VERSION)
    return 0;
  lose();
  return EPROTO;
}

bool HelperClient::send(void* message, size_t bytes, tto_helper_type type, std::span<const int> fds) {
  if (fd_ < 0) return false;
  tto_helper_header header{};
  header.magic = TTO_HELPER_MAGIC;
  header.type = static_cast<uint16_t>(type);
  if (next_request_id_ == 0) next_request_id_ = 1;
  header.request_id = next_request_id_++;
  header.bytes = static_cast<uint32_t>(bytes);
  std::memcpy(message, &header, sizeof header);

  iovec piece{message, bytes};
  msghdr out{};
  out.msg_iov = &piece;
  out.msg_iovlen = 1;
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * TTO_HELPER_MAX_BATCH)] = {};
  if (!fds.empty()) {
    out.msg_control = control;
    out.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&out);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  const int64_t deadline = now_ns() + kAnswerMs * kMillisecondNs;
  for (;;) {
    const ssize_t sent = sys::sendmsg(fd_, &out, MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(bytes)) {
      if (counters_ != nullptr) counters_->add(stats::Counter::helper_call);
      return true;
    }
    if (sent == -EINTR) continue;
    if (sent == -EAGAIN && wait_until(fd_, POLLOUT, deadline) == 1) continue;
    lose();
    return false;
  }
}

int HelperClient::receive(Answer& out) {
  out.fd_count = 0;
  iovec piece{&out.body, sizeof out.body};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof out.fds)];
  msghdr in{};
  in.msg_iov = &piece;
  in.msg_iovlen = 1;
  in.msg_control = control;
  in.msg_controllen = sizeof control;
  ssize_t got = -EINTR;
  while (got == -EINTR) got = sys::recvmsg(fd_, &in, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got == -EAGAIN) return 0;
  if (got <= 0) {
    lose();
    return -1;
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&in); c != nullptr; c = CMSG_NXTHDR(&in, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && out.fd_count < 2; ++i)
      std::memcpy(&out.fds[out.fd_count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
  }
  out.bytes = static_cast<size_t>(got);
  const bool is_sound = out.bytes >= sizeof out.header && (in.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (is_sound) std::memcpy(&out.header, &out.body, sizeof out.header);
  if (is_sound && out.header.magic == TTO_HELPER_MAGIC && out.header.bytes == out.bytes) return 1;
  out.close_fds();
  lose();
  return -1;
}

void HelperClient::keep_event(const Answer& message) {
  if (message.bytes != sizeof message.body.event) return;
  if (event_count_ == kMaxEvents) {  // the newest say the most
    event_head_ = (event_head_ + 1) % kMaxEvents;
    --event_count_;
  }
  events_[(event_head_ + event_count_++) % kMaxEvents] = message.body.event;
}

int HelperClient::wait_answer_until(Answer& out, int64_t deadline_ns) {
  const uint32_t wanted = next_request_id_ - 1;
  for (;;) {
    const int taken = receive(out);
    if (taken < 0) return -1;
    if (taken == 1) {
      if (out.header.type == TTO_HELPER_EVENT) {
        keep_event(out);
      } else if (out.header.request_id == wanted) {
        return 1;
      }
      out.close_fds();  // the answer to a request that was given up
      continue;
    }
    if (wait_until(fd_, POLLIN, deadline_ns) != 1) return 0;
  }
}

bool HelperClient::wait_answer(Answer& out) {
  const int found = wait_answer_until(out, now_ns() + kAnswerMs * kMillisecondNs);
  if (found == 0) lose();
  return found == 1;
}

tto_helper_refusal HelperClient::refusal_of(const Answer& answer) {
  if (answer.header.type != TTO_HELPER_REFUSED || answer.bytes != sizeof answer.body.refused)
    return TTO_REFUSED_MALFORMED;
  const auto reason = static_cast<tto_helper_refusal>(answer.body.refused.reason);
  return reason == TTO_REFUSED_NONE ? TTO_REFUSED_MALFORMED : reason;
}

Expected<PortGrant, tto_helper_refusal> HelperClient::open_port(int any_tcp_socket, const tto_helper_open_port& wish) {
  tto_helper_open_port message = wish;
  Answer answer;
  const int fds[] = {any_tcp_socket};
  if (!send(&message, sizeof message, TTO_HELPER_OPEN_PORT, fds) || !wait_answer(answer))
    return Unexpected{TTO_REFUSED_NO_RESOURCE};
  if (answer.header.type != TTO_HELPER_PORT || answer.bytes != sizeof answer.body.port || answer.fd_count != 2) {
    answer.close_fds();
    return Unexpected{refusal_of(answer)};
  }
  PortGrant grant;
  grant.xsk_fd = answer.fds[0];
  grant.region_fd = answer.fds[1];
  grant.description = answer.body.port;
  if (grant.description.nic_count > TTO_HELPER_MAX_NICS) grant.description.nic_count = TTO_HELPER_MAX_NICS;
  return grant;
}

Expected<tto_helper_grant, tto_helper_refusal> HelperClient::listen(int placeholder) {
  tto_helper_listen message{};
  Answer answer;
  const int fds[] = {placeholder};
  if (!send(&message, sizeof message, TTO_HELPER_LISTEN, fds) || !wait_answer(answer))
    return Unexpected{TTO_REFUSED_NO_RESOURCE};
  answer.close_fds();
  const tto_helper_granted& granted = answer.body.granted;
  if (answer.header.type != TTO_HELPER_GRANTED || answer.bytes != kGrantsOffset + sizeof granted.grants[0] ||
      granted.count != 1)
    return Unexpected{refusal_of(answer)};
  if (granted.grants[0].grant_id == 0) return Unexpected{static_cast<tto_helper_refusal>(granted.grants[0].reason)};
  return granted.grants[0];
}

bool HelperClient::open_flows(std::span<const tto_helper_flow> flows, std::span<const int> placeholders,
                              std::span<tto_helper_grant> answers) {
  for (tto_helper_grant& grant : answers) {
    grant = tto_helper_grant{};
    grant.reason = TTO_REFUSED_NO_RESOURCE;
  }
  if (placeholders.size() != flows.size() || answers.size() != flows.size()) return false;
  for (size_t done = 0; done < flows.size();) {
    const size_t count = flows.size() - done < TTO_HELPER_MAX_BATCH ? flows.size() - done : TTO_HELPER_MAX_BATCH;
    tto_helper_open_flows message{};
    message.count = static_cast<uint32_t>(count);
    std::memcpy(message.flows, &flows[done], count * sizeof flows[0]);
    Answer answer;
    if (!send(&message, kFlowsOffset + count * sizeof flows[0], TTO_HELPER_OPEN_FLOWS,
              placeholders.subspan(done, count)) ||
        !wait_answer(answer))
      return false;
    answer.close_fds();
    const tto_helper_granted& granted = answer.body.granted;
    if (answer.header.type != TTO_HELPER_GRANTED || granted.count != count ||
        answer.bytes != kGrantsOffset + count * sizeof granted.grants[0]) {
      lose();
      return false;
    }
    std::memcpy(&answers[done], granted.grants, count * sizeof granted.grants[0]);
    done += count;
  }
  return true;
}

Expected<uint32_t, tto_helper_refusal> HelperClient::lease(const tto_helper_lease& wish,
                                                           std::span<tto_helper_leased_tuple> tuples,
                                                           wire::MacAddress& mac) {
  tto_helper_lease message = wish;
  if (message.count > tuples.size()) message.count = static_cast<uint32_t>(tuples.size());
  Answer answer;
  if (!send(&message, sizeof message, TTO_HELPER_LEASE, {}) || !wait_answer(answer))
    return Unexpected{TTO_REFUSED_NO_RESOURCE};
  answer.close_fds();
  const tto_helper_leased& leased = answer.body.leased;
  if (answer.header.type != TTO_HELPER_LEASED || leased.count == 0 || leased.count > message.count ||
      answer.bytes != kTuplesOffset + leased.count * sizeof leased.tuples[0])
    return Unexpected{refusal_of(answer)};
  std::memcpy(tuples.data(), leased.tuples, leased.count * sizeof leased.tuples[0]);
  std::memcpy(mac.bytes.data(), leased.next_hop_mac, 6);
  return leased.count;
}

void HelperClient::release(const tto_helper_release_item& item) {
  if (fd_ < 0) return;
  pending_.items[pending_.count++] = item;
  if (pending_.count == TTO_HELPER_MAX_BATCH) flush();
}

void HelperClient::flush() {
  if (fd_ < 0 || pending_.count == 0) return;
  send(&pending_, kItemsOffset + pending_.count * sizeof pending_.items[0], TTO_HELPER_RELEASE, {});
  pending_.count = 0;
}

bool HelperClient::release_now(const tto_helper_release_item& item) {
  if (fd_ < 0) return true;
  const int64_t deadline = now_ns() + kReleaseMs * kMillisecondNs;
  pending_.items[pending_.count++] = item;
  const bool is_full = pending_.count == TTO_HELPER_MAX_BATCH;
  if (!is_full && wait_until(fd_, POLLOUT, deadline) != 1) return false;  // stays queued
  pending_.wants_answer = 1;
  flush();
  pending_.wants_answer = 0;
  if (fd_ < 0) return true;  // ttod went, and its descriptors with it
  Answer answer;
  const int found = wait_answer_until(answer, deadline);
  answer.close_fds();
  return found != 0;
}

template <typename SendOne, typename OnAnswer>
bool HelperClient::exchange(size_t count, const SendOne& send_one, const OnAnswer& on_answer) {
  struct Outstanding {
    uint32_t request_id;
    size_t index;
  };
  Outstanding outstanding[kMaxOutstanding];
  size_t waiting = 0;
  for (size_t sent = 0; sent < count || waiting > 0;) {
    if (sent < count && waiting < kMaxOutstanding) {
      if (!send_one(sent)) return false;
      outstanding[waiting++] = {next_request_id_ - 1, sent++};
      continue;
    }
    if (fd_ < 0) return false;
    Answer answer;
    const int taken = receive(answer);
    if (taken < 0) return false;
    if (taken == 0) {
      if (wait_until(fd_, POLLIN, now_ns() + kAnswerMs * kMillisecondNs) == 1) continue;
      lose();
      return false;
    }
    answer.close_fds();
    if (answer.header.type == TTO_HELPER_EVENT) {
      keep_event(answer);
      continue;
    }
    for (size_t i = 0; i < waiting; ++i) {
      if (outstanding[i].request_id != answer.header.request_id) continue;
      on_answer(outstanding[i].index, answer);
      outstanding[i] = outstanding[--waiting];
      break;
    }
  }
  return true;
}

bool HelperClient::handover(std::span<const HandoverRequest> requests, std::span<HandoverAnswer> answers) {
  for (HandoverAnswer& answer : answers) answer = HandoverAnswer{};
  if (answers.size() != requests.size()) return false;
  const auto send_one = [&](size_t i) {
    tto_helper_handover message{};
    message.item = requests[i].item;
    message.restore = requests[i].restore;
    return send(&message, sizeof message, TTO_HELPER_HANDOVER, {&requests[i].placeholder, 1});
  };
  return exchange(requests.size(), send_one, [&](size_t i, const Answer& answer) {
    const bool is_restoring =
        answer.header.type == TTO_HELPER_RESTORING && answer.bytes == sizeof answer.body.restoring;
    answers[i].handover_id = is_restoring ? answer.body.restoring.handover_id : 0;
    answers[i].reason = is_restoring ? TTO_REFUSED_NONE : refusal_of(answer);
  });
}

bool HelperClient::handover_end(std::span<const HandoverEnd> ends, std::span<tto_helper_refusal> answers) {
  for (tto_helper_refusal& answer : answers) answer = TTO_REFUSED_NO_RESOURCE;
  if (answers.size() != ends.size()) return false;
  const auto send_one = [&](size_t i) {
    tto_helper_handover_end message{};
    message.handover_id = ends[i].handover_id;
    message.flags = ends[i].flags;
    return send(&message, sizeof message, TTO_HELPER_HANDOVER_END, {});
  };
  return exchange(ends.size(), send_one, [&](size_t i, const Answer& answer) {
    const bool is_over = answer.header.type == TTO_HELPER_HANDED_OVER && answer.bytes == sizeof answer.body.handed_over;
    answers[i] = is_over ? TTO_REFUSED_NONE : refusal_of(answer);
  });
}

bool HelperClient::inject(uint64_t handover_id, std::span<const uint8_t> packet) {
  tto_helper_inject message;
  if (packet.size() > sizeof message.packet) return false;
  message.handover_id = handover_id;
  message.packet_bytes = static_cast<uint32_t>(packet.size());
  message.reserved = 0;
  std::memcpy(message.packet, packet.data(), packet.size());
  return send(&message, kPacketOffset + packet.size(), TTO_HELPER_INJECT, {});
}

bool HelperClient::poll_event(tto_helper_event& out) {
  while (event_count_ == 0 && fd_ >= 0) {
    Answer message;
    if (receive(message) != 1) break;
    if (message.header.type == TTO_HELPER_EVENT) keep_event(message);
    message.close_fds();
  }
  if (event_count_ == 0) return false;
  out = events_[event_head_];
  event_head_ = (event_head_ + 1) % kMaxEvents;
  --event_count_;
  return true;
}

}  // namespace tto::control
