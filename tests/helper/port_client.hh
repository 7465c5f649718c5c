// A process's side without the stack: the helper's grants, an AF_XDP port, and segments made by hand.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "libtto/control/helper_client.hh"
#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_port.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"
#include "tests/support/port_frames.hh"

namespace ttod::testing {

inline tto::wire::IpAddress ip(const char* text) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, text, &v4) == 1) return tto::wire::IpAddress::from_v4(v4.s_addr);
  inet_pton(AF_INET6, text, &v6);
  return tto::wire::IpAddress::from_v6(&v6);
}

inline int bound_socket(const char* address, uint16_t port, bool listens) {
  const bool is_v4 = ip(address).is_v4();
  const int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  int status = 0;
  if (is_v4) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    inet_pton(AF_INET, address, &name.sin_addr);
    status = bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name);
  } else {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    inet_pton(AF_INET6, address, &name.sin6_addr);
    status = bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name);
  }
  if (status == 0 && listens) status = listen(fd, 16);
  return status == 0 ? fd : -1;
}

struct PortClient {
  tto::control::HelperClient helper;
  tto::memory::RegionMapping mapping;
  tto::memory::FramePool pool;
  tto::port::XskPort port;
  tto_helper_port description{};
  std::optional<tto::testing::PortUser> user;

  /// Connects, opens a port in the calling process's namespace, posts frames. 0, or the step that failed.
  int open(const std::string& path, uint32_t frames = 0) {
    if (helper.connect(path.c_str()) != 0) return 11;
    const int any = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tto_helper_open_port wish{};
    wish.frame_count = frames;
    auto grant = helper.open_port(any, wish);
    close(any);
    if (!grant) return 20 + static_cast<int>(grant.error());
    description = grant->description;
    if (mapping.map(grant->region_fd) != 0) return 12;
    close(grant->region_fd);
    const uint32_t region = pool.add_region(mapping.region());
    if (port.open(grant->xsk_fd, description, mapping.region(), region) != 0) return 13;
    user.emplace(port, pool, region);
    target_ = std::min<size_t>(512, pool.frame_count() / 4);
    return user->post(target_) > 0 ? 0 : 14;
  }

  /// The next TCP segment that arrives; empty after `limit`.
  struct Segment {
    tto::testing::Bytes bytes;
    tto::wire::FrameView view;
  };
  std::optional<Segment> next_segment(std::chrono::milliseconds limit = std::chrono::seconds(3)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (queue_.empty()) {
      if (std::chrono::steady_clock::now() > end) return std::nullopt;
      port.kick(true);
      for (tto::testing::Bytes& bytes : user->receive()) {
        const auto view = tto::wire::parse_frame({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                                 static_cast<uint32_t>(bytes.size()));
        if (view) queue_.push_back({std::move(bytes), *view});
      }
      user->top_up(target_);
      user->reclaim();
    }
    Segment first = std::move(queue_.front());
    queue_.erase(queue_.begin());
    return first;
  }

  /// Headers for an answer to what arrived.
  static tto::wire::FrameHeaders answer_to(const tto::wire::FrameView& in, uint8_t flags, uint32_t seq) {
    tto::wire::FrameHeaders out;
    out.source_mac = in.destination_mac;
    out.destination_mac = in.source_mac;
    out.source = in.destination;
    out.destination = in.source;
    out.source_port = in.tcp.destination_port;
    out.destination_port = in.tcp.source_port;
    out.seq.raw = seq;
    const uint32_t syn_or_fin = (in.tcp.flags & (tto::wire::kSyn | tto::wire::kFin)) != 0 ? 1 : 0;
    out.ack.raw = in.tcp.seq.raw + in.payload_bytes + syn_or_fin;
    out.flags = flags;
    out.window = 65535;
    return out;
  }

  static tto::testing::Bytes frame(const tto::wire::FrameHeaders& headers, const std::string& payload = "") {
    const size_t before = tto::wire::headers_bytes(headers);
    tto::testing::Bytes bytes(before + payload.size());
    auto* at = reinterpret_cast<uint8_t*>(bytes.data()) + before;
    std::memcpy(at, payload.data(), payload.size());
    const uint16_t sum = tto::wire::sum_bytes(at, payload.size());
    tto::wire::emit_headers(headers, at, static_cast<uint32_t>(payload.size()), sum);
    return bytes;
  }
  bool send(const tto::wire::FrameHeaders& headers, const std::string& payload = "") {
    return user->send(frame(headers, payload));
  }

 private:
  std::vector<Segment> queue_;
  size_t target_ = 0;
};

}  // namespace ttod::testing
