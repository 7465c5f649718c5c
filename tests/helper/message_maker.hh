// Helper messages out of numbers, chosen so that most get past every check of their shape: types, sizes and counts that
// agree, identifiers in the range that a session has, tuples of its own. For the fuzzer and the storm on a real ttod.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kmod-helper/protocol/helper_protocol.h"

namespace ttod::testing {

struct MadeMessage {
  std::vector<std::byte> bytes;
  std::vector<uint32_t> sockets;  // which of the caller's descriptors to send along
};

/// `Next`: uint32_t next(). `ifindex`: of an interface that has 10.91.0.1 and fd91::1.
template <typename Next>
class MessageMaker {
 public:
  MessageMaker(Next& next, uint32_t ifindex) : next_(next), ifindex_(ifindex) {}

  MadeMessage make() {
    switch (pick(17)) {
      case 0:
        return one<tto_helper_hello>(TTO_HELPER_HELLO, 0, [&](auto& m) { m.version = TTO_HELPER_VERSION; });
      case 1:
        return one<tto_helper_open_port>(TTO_HELPER_OPEN_PORT, 1, [&](auto& m) { m.frame_count = 256 << pick(4); });
      case 2:
      case 3:
        return one<tto_helper_listen>(TTO_HELPER_LISTEN, 1, [](auto&) {});
      case 4:
      case 5:
      case 6:
        return open_flows();
      case 7:
      case 8:
        return release();
      case 9:
      case 10:
        return handover();
      case 11:
      case 12:
        return one<tto_helper_handover_end>(TTO_HELPER_HANDOVER_END, 0, [&](auto& m) {
          m.handover_id = pick(64);
          m.flags = pick(4);
        });
      case 13:
      case 14:
        return inject();
      case 15:
        return one<tto_helper_lease>(TTO_HELPER_LEASE, 0, [&](auto& m) {
          tto_helper_flow flow{};
          fill_flow(flow);
          m.slot = pick(4);
          m.count = 1 + pick(pick(8) == 0 ? TTO_HELPER_MAX_LEASE : 4);
          std::memcpy(m.local, flow.local, 16);
          std::memcpy(m.remote, flow.remote, 16);
          std::memcpy(m.next_hop, flow.next_hop, 16);
          m.remote_port = flow.remote_port;
          m.ifindex = flow.ifindex;
        });
      default:
        return spoiled();
    }
  }

 private:
  uint32_t pick(uint32_t below) { return next_() % below; }

  MadeMessage finish(const void* message, size_t bytes, uint16_t type, size_t sockets) {
    MadeMessage made;
    made.bytes.resize(bytes);
    std::memcpy(made.bytes.data(), message, bytes);
    tto_helper_header header{TTO_HELPER_MAGIC, type, 0, next_(), static_cast<uint32_t>(bytes)};
    std::memcpy(made.bytes.data(), &header, sizeof header);
    for (size_t i = 0; i < sockets; ++i) made.sockets.push_back(next_());
    return made;
  }
  template <typename Message, typename Fill>
  MadeMessage one(uint16_t type, size_t sockets, const Fill& fill) {
    Message message{};
    fill(message);
    return finish(&message, sizeof message, type, sockets);
  }
  void fill_flow(tto_helper_flow& flow) {
    const bool is_v6 = pick(4) == 0;
    const uint8_t v4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 91, 0, 1};
    const uint8_t v6[16] = {0xfd, 0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    std::memcpy(flow.local, is_v6 ? v6 : v4, 16);
    std::memcpy(flow.remote, flow.local, 16);
    flow.remote[15] = static_cast<uint8_t>(pick(16) == 0 ? next_() : 2);
    std::memcpy(flow.next_hop, flow.remote, 16);
    flow.local_port = static_cast<uint16_t>(7700 + pick(8));
    flow.remote_port = static_cast<uint16_t>(pick(16) == 0 ? next_() : 9 + pick(4));
    flow.ifindex = pick(16) == 0 ? next_() : ifindex_;
    if (pick(32) == 0) flow.local[pick(16)] ^= static_cast<uint8_t>(next_());
  }
  void fill_item(tto_helper_release_item& item) {
    item.grant_id = pick(3) == 0 ? 0 : pick(128);
    fill_flow(item.flow);
    item.iss = next_();
  }
  MadeMessage open_flows() {
    tto_helper_open_flows message{};
    message.count = 1 + pick(pick(8) == 0 ? TTO_HELPER_MAX_BATCH : 4);
    for (uint32_t i = 0; i < message.count; ++i) fill_flow(message.flows[i]);
    return finish(&message, offsetof(tto_helper_open_flows, flows) + message.count * sizeof message.flows[0],
                  TTO_HELPER_OPEN_FLOWS, message.count);
  }
  MadeMessage release() {
    tto_helper_release message{};
    message.count = 1 + pick(pick(8) == 0 ? TTO_HELPER_MAX_BATCH : 4);
    message.wants_answer = pick(4) == 0 ? 1 : 0;
    for (uint32_t i = 0; i < message.count; ++i) fill_item(message.items[i]);
    return finish(&message, offsetof(tto_helper_release, items) + message.count * sizeof message.items[0],
                  TTO_HELPER_RELEASE, 0);
  }
  MadeMessage handover() {
    return one<tto_helper_handover>(TTO_HELPER_HANDOVER, 1, [&](auto& m) {
      fill_item(m.item);
      m.restore.snd_una = next_();
      m.restore.rcv_unread = next_();
      m.restore.snd_wscale = static_cast<uint8_t>(pick(15));
      m.restore.rcv_wscale = static_cast<uint8_t>(pick(15));
      m.restore.flags = static_cast<uint8_t>(pick(8));
      m.restore.peer_mss = static_cast<uint16_t>(next_());
      m.restore.tsval = next_();
      m.restore.send_bytes = next_();
      m.restore.receive_bytes = next_();
    });
  }
  MadeMessage inject() {
    tto_helper_inject message{};
    message.handover_id = pick(64);
    tto_helper_flow flow{};
    fill_flow(flow);
    const bool is_v6 = flow.local[0] != 0;
    const uint32_t ip = is_v6 ? 40 : 20, tcp = 20 + 4 * pick(4), payload = pick(200);
    const uint32_t bytes = ip + tcp + payload;
    uint8_t* p = message.packet;
    if (is_v6) {
      p[0] = 0x60;
      p[4] = static_cast<uint8_t>((bytes - 40) >> 8);
      p[5] = static_cast<uint8_t>(bytes - 40);
      p[6] = 6;
      std::memcpy(p + 8, flow.remote, 16);
      std::memcpy(p + 24, flow.local, 16);
    } else {
      p[0] = 0x45;
      p[2] = static_cast<uint8_t>(bytes >> 8);
      p[3] = static_cast<uint8_t>(bytes);
      p[9] = 6;
      std::memcpy(p + 12, flow.remote + 12, 4);
      std::memcpy(p + 16, flow.local + 12, 4);
    }
    p[ip] = static_cast<uint8_t>(flow.remote_port >> 8);
    p[ip + 1] = static_cast<uint8_t>(flow.remote_port);
    p[ip + 2] = static_cast<uint8_t>(flow.local_port >> 8);
    p[ip + 3] = static_cast<uint8_t>(flow.local_port);
    p[ip + 12] = static_cast<uint8_t>(tcp / 4 << 4);
    p[ip + 13] = static_cast<uint8_t>(next_());
    if (pick(4) == 0) p[pick(bytes)] ^= static_cast<uint8_t>(next_());
    message.packet_bytes = pick(16) == 0 ? pick(bytes) : bytes;
    return finish(&message, offsetof(tto_helper_inject, packet) + message.packet_bytes, TTO_HELPER_INJECT, 0);
  }
  /// Mostly right, and then not.
  MadeMessage spoiled() {
    if (pick(8) != 0) return release();
    MadeMessage made = handover();
    switch (pick(3)) {
      case 0:
        made.bytes[pick(static_cast<uint32_t>(made.bytes.size()))] ^= static_cast<std::byte>(1 + pick(255));
        break;
      case 1:
        made.bytes.resize(1 + pick(static_cast<uint32_t>(made.bytes.size())));
        break;
      default:
        made.sockets.resize(pick(4));
        break;
    }
    return made;
  }

  Next& next_;
  uint32_t ifindex_;
};

/// Sends it; `sockets` are indexes into `descriptors`. False: the session is over, or does not take it now.
inline bool send_made(int fd, const MadeMessage& made, const std::vector<int>& descriptors, int flags) {
  iovec piece{const_cast<std::byte*>(made.bytes.data()), made.bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  std::vector<int> fds;
  for (const uint32_t socket : made.sockets) fds.push_back(descriptors[socket % descriptors.size()]);
  std::vector<std::byte> control(CMSG_SPACE(fds.size() * sizeof(int)));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(fd, &message, flags | MSG_NOSIGNAL) == static_cast<ssize_t>(made.bytes.size());
}

}  // namespace ttod::testing
