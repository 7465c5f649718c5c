// A connection made by hand on an AF_XDP port, to be handed to the kernel, and its peer: a kernel socket in a process that
// does as it is told. Every byte of a direction depends on its offset, so what is lost, doubled or mixed up shows.
#pragma once

#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#include "tests/helper/port_client.hh"
#include "tests/helper/ttod_lab.hh"

namespace ttod::testing {

inline std::string stream_bytes(uint64_t offset, size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((offset + i) * 0x9e3779b97f4a7c15u >> 56);
  return bytes;
}

inline int named_socket(int domain, const tto::wire::IpAddress& address, uint16_t port, sockaddr_storage& name,
                        socklen_t& bytes) {
  name = {};
  if (domain == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(name);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = address.v4();
    bytes = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(name);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    bytes = sizeof v6;
  }
  const int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return fd;
}

/// Runs in namespace b; commands come from whoever holds the other end.
class Peer {
 public:
  explicit Peer(const std::string& netns) : process_(netns, prepared([this] { return run(); })) { close(ends_[1]); }
  ~Peer() { close(ends_[0]); }

  bool listen(const char* address, uint16_t port) { return tell('l', port, address); }
  bool accept() { return tell('a', 0); }
  bool connect(const char* address, uint16_t port) { return tell('c', port, address); }  // does not wait for it
  bool send(size_t bytes) { return tell('s', bytes); }
  /// Reads exactly that many and compares them.
  bool reads(size_t bytes) { return tell('r', bytes); }
  bool shut_down() { return tell('f', 0); }
  bool reads_end() { return tell('e', 0); }

 private:
  struct Command {
    char what;
    char address[46];
    uint64_t number;
  };

  const std::function<int()>& prepared(std::function<int()> run) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) != 0) std::abort();
    run_ = std::move(run);
    return run_;
  }
  bool tell(char what, uint64_t number, const char* address = "") {
    Command command{what, {}, number};
    std::strncpy(command.address, address, sizeof command.address - 1);
    char answer = 0;
    return ::send(ends_[0], &command, sizeof command, MSG_NOSIGNAL) == sizeof command &&
           recv(ends_[0], &answer, 1, 0) == 1 && answer == 'y';
  }

  int run() {
    close(ends_[0]);
    Command command;
    while (recv(ends_[1], &command, sizeof command, 0) == sizeof command) {
      const char answer = obey(command) ? 'y' : 'n';
      if (write(ends_[1], &answer, 1) != 1) return 1;
    }
    return 0;
  }
  bool obey(const Command& command) {
    sockaddr_storage name;
    socklen_t bytes = 0;
    const tto::wire::IpAddress address = ip(command.address);
    const int domain = address.is_v4() ? AF_INET : AF_INET6;
    switch (command.what) {
      case 'l':
        listener_ = named_socket(domain, address, static_cast<uint16_t>(command.number), name, bytes);
        return bind(listener_, reinterpret_cast<sockaddr*>(&name), bytes) == 0 && ::listen(listener_, 8) == 0;
      case 'a':
        fd_ = ::accept(listener_, nullptr, nullptr);
        return limit_waits();
      case 'c':
        fd_ = named_socket(domain, address, static_cast<uint16_t>(command.number), name, bytes);
        fcntl(fd_, F_SETFL, O_NONBLOCK);
        if (::connect(fd_, reinterpret_cast<sockaddr*>(&name), bytes) != 0 && errno != EINPROGRESS) return false;
        fcntl(fd_, F_SETFL, 0);
        return limit_waits();
      case 's': {
        const std::string data = stream_bytes(sent_, command.number);
        sent_ += data.size();
        return ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size());
      }
      case 'r': {
        std::string data(command.number, '\0');
        const bool is_whole = recv(fd_, data.data(), data.size(), MSG_WAITALL) == static_cast<ssize_t>(data.size());
        const bool is_right = is_whole && data == stream_bytes(read_, data.size());
        read_ += data.size();
        return is_right;
      }
      case 'f':
        return ::shutdown(fd_, SHUT_WR) == 0;
      case 'e': {
        char byte = 0;
        return recv(fd_, &byte, 1, 0) == 0;
      }
      default:
        return false;
    }
  }
  bool limit_waits() {
    const timeval limit{5, 0};
    return fd_ >= 0 && setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
  }

  int ends_[2] = {-1, -1};
  int listener_ = -1, fd_ = -1;
  uint64_t sent_ = 0, read_ = 0;
  std::function<int()> run_;
  Client process_;
};

/// The connection's near end: sequence numbers, what is unread and unacknowledged, frames that came after the freeze.
struct ByHand {
  PortClient& c;
  int placeholder = -1;
  tto_helper_release_item item{};
  tto::wire::FrameHeaders to_peer;  // a frame's headers, but for the numbers
  uint32_t snd_una = 0, snd_nxt = 0, rcv_nxt = 0;
  uint64_t sent = 0, received = 0;  // stream offsets
  std::string unread, unacked;
  tto::wire::TcpOptions theirs;  // of their SYN
  uint32_t ts_recent = 0;
  bool has_their_fin = false;
  std::vector<std::string> held;  // IP packets
  uint64_t handover_id = 0;

  static constexpr uint8_t kScale = 7;
  static uint32_t clock() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint32_t>(now.tv_sec * 1000 + now.tv_nsec / 1'000'000) & ~1u;
  }

  explicit ByHand(PortClient& client) : c(client) {}

  static tto_helper_flow flow_between(const PortClient& c, const tto::wire::IpAddress& local, uint16_t local_port,
                                      const tto::wire::IpAddress& remote, uint16_t remote_port) {
    tto_helper_flow flow{};
    std::memcpy(flow.local, local.bytes.data(), 16);
    std::memcpy(flow.remote, remote.bytes.data(), 16);
    std::memcpy(flow.next_hop, remote.bytes.data(), 16);
    flow.local_port = local_port;
    flow.remote_port = remote_port;
    flow.ifindex = c.description.nics[0].ifindex;
    return flow;
  }

  void offer_options(uint16_t window_field) {
    to_peer.options = {};
    to_peer.options.mss = 1460;
    to_peer.options.has_window_scale = to_peer.options.sack_permitted = to_peer.options.has_timestamps = true;
    to_peer.options.window_scale = kScale;
    to_peer.window = window_field;
  }
  bool send(uint8_t flags, uint32_t seq, const std::string& payload = "") {
    to_peer.flags = flags;
    to_peer.seq.raw = seq;
    to_peer.ack.raw = (flags & tto::wire::kAck) != 0 ? rcv_nxt : 0;
    to_peer.options.ts_val = clock();
    to_peer.options.ts_ecr = ts_recent;
    return c.send(to_peer, payload);
  }
  void established(const tto::wire::FrameView& syn) {
    theirs = syn.tcp.options;
    to_peer.options = {};
    to_peer.options.has_timestamps = theirs.has_timestamps;
    to_peer.window = 512;
  }

  /// To a listener in namespace b, from a socket of that domain (AF_INET6 with IPv4: v4-mapped). 0, or a step.
  int connect(int domain, const char* local, const char* remote, uint16_t port) {
    sockaddr_storage name;
    socklen_t bytes = 0;
    placeholder = named_socket(domain, ip(local), 0, name, bytes);
    if (bind(placeholder, reinterpret_cast<sockaddr*>(&name), bytes) != 0) return 60;
    if (getsockname(placeholder, reinterpret_cast<sockaddr*>(&name), &bytes) != 0) return 61;
    const uint16_t local_port = ntohs(reinterpret_cast<sockaddr_in&>(name).sin_port);  // where sockaddr_in6 has it
    item.flow = flow_between(c, ip(local), local_port, ip(remote), port);
    const uint8_t none[6] = {};
    tto_helper_grant grant{};
    const bool is_resolved = becomes([&] {  // its MAC may have to be asked for
      if (grant.grant_id != 0) c.helper.release_now({grant.grant_id, {}, 0, 0});
      return c.helper.open_flows({&item.flow, 1}, {&placeholder, 1}, {&grant, 1}) && grant.grant_id != 0 &&
             std::memcmp(grant.next_hop_mac, none, 6) != 0;
    });
    if (!is_resolved) return 62;
    item.grant_id = grant.grant_id;
    std::memcpy(to_peer.source_mac.bytes.data(), c.description.nics[0].mac, 6);
    std::memcpy(to_peer.destination_mac.bytes.data(), grant.next_hop_mac, 6);
    to_peer.source = ip(local);
    to_peer.destination = ip(remote);
    to_peer.source_port = local_port;
    to_peer.destination_port = port;
    offer_options(65535);
    snd_nxt = 0xfffff000;  // so that it wraps
    if (!send(tto::wire::kSyn, snd_nxt++)) return 63;
    const auto answer = c.next_segment();
    if (!answer || answer->view.tcp.flags != (tto::wire::kSyn | tto::wire::kAck)) return 64;
    rcv_nxt = answer->view.tcp.seq.raw + 1;
    ts_recent = answer->view.tcp.options.ts_val;
    snd_una = snd_nxt;
    established(answer->view);
    return send(tto::wire::kAck, snd_nxt) ? 0 : 65;
  }

  /// The next SYN to a listener that has its grant. The placeholder is unbound.
  int accept(int domain) {
    const auto syn = c.next_segment();
    if (!syn || syn->view.tcp.flags != tto::wire::kSyn) return 70;
    to_peer = PortClient::answer_to(syn->view, 0, 0);
    rcv_nxt = syn->view.tcp.seq.raw + 1;
    ts_recent = syn->view.tcp.options.ts_val;
    offer_options(65535);
    snd_nxt = item.iss = 0x7ffffff0;
    if (!send(tto::wire::kSyn | tto::wire::kAck, snd_nxt++)) return 71;
    const auto ack = c.next_segment();
    if (!ack || ack->view.tcp.flags != tto::wire::kAck || ack->view.tcp.ack.raw != snd_nxt) return 72;
    snd_una = snd_nxt;
    established(syn->view);
    item.flow = flow_between(c, to_peer.source, to_peer.source_port, to_peer.destination, to_peer.destination_port);
    sockaddr_storage name;
    socklen_t bytes = 0;
    placeholder = named_socket(domain, to_peer.source, 0, name, bytes);
    return 0;
  }

  bool send_data(size_t bytes) {
    const std::string data = stream_bytes(sent, bytes);
    const bool is_sent = send(tto::wire::kAck | tto::wire::kPsh, snd_nxt, data);
    sent += bytes;
    snd_nxt += static_cast<uint32_t>(bytes);
    unacked += data;
    return is_sent;
  }
  bool send_fin() { return send(tto::wire::kAck | tto::wire::kFin, snd_nxt++); }

  /// Takes segments and acknowledges them until `unread` has that many bytes, with the FIN after them if that is asked.
  bool receive_until(size_t bytes, bool with_fin = false) {
    while (unread.size() < bytes || (with_fin && !has_their_fin)) {
      const auto in = c.next_segment();
      if (!in) return false;
      take_ack(in->view.tcp.ack.raw);
      if (in->view.tcp.seq.raw != rcv_nxt) continue;  // again
      ts_recent = in->view.tcp.options.ts_val;
      unread.append(reinterpret_cast<const char*>(in->bytes.data()) + in->view.payload_offset, in->view.payload_bytes);
      rcv_nxt += in->view.payload_bytes;
      if ((in->view.tcp.flags & tto::wire::kFin) != 0) {
        has_their_fin = true;
        ++rcv_nxt;
      }
      if (!send(tto::wire::kAck, snd_nxt)) return false;
    }
    return true;
  }
  void take_ack(uint32_t ack) {
    const uint32_t newly = ack - snd_una;
    if (newly == 0 || newly > snd_nxt - snd_una) return;
    unacked.erase(0, newly);
    snd_una = ack;
  }
  bool receive_ack_of_all() {
    while (snd_una != snd_nxt) {
      const auto in = c.next_segment();
      if (!in) return false;
      take_ack(in->view.tcp.ack.raw);
    }
    return true;
  }
  void read_some(size_t bytes) {
    received += bytes;
    unread.erase(0, bytes);
  }
  /// What arrives from the freeze on.
  void hold(std::chrono::milliseconds limit) {
    while (const auto in = c.next_segment(limit))
      held.emplace_back(reinterpret_cast<const char*>(in->bytes.data()) + in->view.ip_offset,
                        in->bytes.size() - in->view.ip_offset);
  }

  tto_helper_restore restore(uint32_t snd_una_now, uint32_t rcv_next_now) const {
    tto_helper_restore r{};
    r.snd_una = snd_una_now;
    r.rcv_unread = rcv_next_now - static_cast<uint32_t>(unread.size());
    r.snd_wscale = theirs.has_window_scale ? theirs.window_scale : 0;
    r.rcv_wscale = theirs.has_window_scale ? kScale : 0;
    r.flags = static_cast<uint8_t>((theirs.sack_permitted ? TTO_RESTORE_SACK : 0) |
                                   (theirs.has_timestamps ? TTO_RESTORE_TIMESTAMPS : 0) |
                                   (theirs.has_window_scale ? TTO_RESTORE_WSCALE : 0));
    r.peer_mss = theirs.mss;
    r.tsval = clock() + 2;
    r.send_bytes = 1 << 20;
    r.receive_bytes = 1 << 20;
    return r;
  }
  tto_helper_refusal begin(const tto_helper_restore& r) {
    const tto::control::HandoverRequest request{item, r, placeholder};
    tto::control::HandoverAnswer answer;
    c.helper.handover({&request, 1}, {&answer, 1});
    handover_id = answer.handover_id;
    return answer.reason;
  }
  tto_helper_refusal end(uint32_t flags = 0) {
    const tto::control::HandoverEnd end{handover_id, flags};
    tto_helper_refusal answer = TTO_REFUSED_NO_RESOURCE;
    c.helper.handover_end({&end, 1}, {&answer, 1});
    return answer;
  }
  bool set_tcp(int name, int value) const { return setsockopt(placeholder, IPPROTO_TCP, name, &value, sizeof value) == 0; }
  bool push(int queue, const std::string& bytes) const {
    return set_tcp(TCP_REPAIR_QUEUE, queue) &&
           (bytes.empty() || ::send(placeholder, bytes.data(), bytes.size(), MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size()));
  }
  /// Between RESTORING and HANDOVER_END: needs no right.
  bool fill_queues(uint32_t rcv_next_now) const {
    if (!push(TCP_RECV_QUEUE, unread) || !push(TCP_SEND_QUEUE, unacked)) return false;
    tcp_repair_window window{};
    window.snd_wl1 = rcv_next_now;
    window.snd_wnd = window.max_window = 64000;
    window.rcv_wnd = 64000;
    window.rcv_wup = rcv_next_now;
    return setsockopt(placeholder, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window) == 0 &&
           set_tcp(TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
  }
  bool inject(const std::string& packet) {
    return c.helper.inject(handover_id, {reinterpret_cast<const uint8_t*>(packet.data()), packet.size()});
  }
  /// A segment of the peer's, as an IP packet.
  std::string from_peer(uint8_t flags, uint32_t seq, uint32_t ack, const std::string& payload = "") const {
    tto::wire::FrameHeaders h;
    h.source = to_peer.destination;
    h.destination = to_peer.source;
    h.source_port = to_peer.destination_port;
    h.destination_port = to_peer.source_port;
    h.seq.raw = seq;
    h.ack.raw = ack;
    h.flags = flags;
    h.window = 500;
    h.options.has_timestamps = theirs.has_timestamps;
    h.options.ts_val = ts_recent;
    h.options.ts_ecr = clock();
    const tto::testing::Bytes frame = PortClient::frame(h, payload);
    constexpr size_t kEthernetBytes = 14;
    return {reinterpret_cast<const char*>(frame.data()) + kEthernetBytes, frame.size() - kEthernetBytes};
  }

  int state() const {
    tcp_info info{};
    socklen_t bytes = sizeof info;
    return getsockopt(placeholder, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_state : -1;
  }
  bool reads(size_t bytes) {
    const timeval limit{5, 0};
    setsockopt(placeholder, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::string data(bytes, '\0');
    const bool is_right = recv(placeholder, data.data(), bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes) &&
                          data == stream_bytes(received, bytes);
    received += bytes;
    return is_right;
  }
  bool reads_end() const {
    char byte = 0;
    return recv(placeholder, &byte, 1, 0) == 0;
  }
  bool writes(size_t bytes) {
    const std::string data = stream_bytes(sent, bytes);
    sent += bytes;
    return ::send(placeholder, data.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
  }
};

}  // namespace ttod::testing
