// Connection: path MTU by probing (R79; path_mtu.hh). Off unless net.ipv4.tcp_mtu_probing says otherwise.
#include <algorithm>

#include "libtto/tcp/connection.hh"

namespace tto::tcp {
namespace {

constexpr uint64_t kSegmentsBesideProbe = 4;  // what follows shows whether it was lost
constexpr uint64_t kLeastWindowSegments = 11;

}  // namespace

uint32_t Connection::header_bytes() const {
  return (config_.is_v6 ? 60u : 40u) + (agreed_.timestamps ? kTimestampOptionBytes : 0u);
}

// The peer's MSS is known.
void Connection::begin_mtu_search() {
  const uint32_t peer = std::min<uint32_t>(uint32_t{agreed_.peer_mss} + (config_.is_v6 ? 60 : 40), 65535);
  path_mtu_.init(static_cast<PathMtu::Mode>(config_.mtu_probing),
                 std::min(config_.path_mtu_bytes, static_cast<uint16_t>(peer)));
  if (path_mtu_.mode() == PathMtu::Mode::kAlways) set_path_mtu(base_mtu());
}

uint16_t Connection::base_mtu() const {
  const uint32_t least = config_.is_v6 ? 1280 : 552;
  return static_cast<uint16_t>(std::min<uint32_t>(std::max(config_.mtu_base_mss + header_bytes(), least), 65535));
}

void Connection::set_path_mtu(uint16_t mtu_bytes) {
  path_mtu_.begin_search(mtu_bytes);
  config_.path_mtu_bytes = std::min(config_.path_mtu_bytes, mtu_bytes);
  update_mss();
  congestion_.set_mss(mss_);
}

// The timer ran out again and again: perhaps only large segments do not get through, and nobody says so (RFC 4821
// §7.7).
void Connection::look_for_black_hole(Instant now) {
  if (path_mtu_.is_probing()) path_mtu_.on_probe_lost(now);
  if (rtt_.backoff() < PathMtu::kTimeoutsOfBlackHole) return;
  const uint16_t floor = config_.is_v6 ? 1280 : 552;
  const uint16_t smaller = path_mtu_.smaller(config_.path_mtu_bytes, base_mtu(), floor);
  if (smaller < config_.path_mtu_bytes && snd_.flight() + header_bytes() > smaller) set_path_mtu(smaller);
}

// One full segment of the size to try, 0: none now. It must not be what holds the connection up, and enough must follow
// it.
uint32_t Connection::next_mtu_probe() const {
  const uint16_t mtu = path_mtu_.next_probe();
  if (mtu == 0 || mtu <= header_bytes() + mss_ || !recovery_.is_open() || !recovery_.scoreboard().empty()) return 0;
  const uint32_t bytes = mtu - header_bytes();
  const uint64_t needed = bytes + kSegmentsBesideProbe * mss_;
  const uint64_t pipe = recovery_.pipe(snd_.una, snd_.nxt);
  if (snd_.unsent() < needed || snd_.nxt + needed > snd_.window_end()) return 0;
  if (congestion_.cwnd() < kLeastWindowSegments * mss_ || pipe + bytes > congestion_.cwnd()) return 0;
  return bytes;
}

void Connection::on_mtu_probe_acked(Instant now) {
  config_.path_mtu_bytes = path_mtu_.on_probe_passed(now);
  update_mss();
  congestion_.set_mss(mss_);
}

// True: only the probe was lost, which says nothing of congestion.
bool Connection::is_mtu_probe_lost(Instant now) {
  if (!path_mtu_.is_probing() || snd_.una != path_mtu_.probe().begin) return false;
  path_mtu_.on_probe_lost(now);
  return true;
}

}  // namespace tto::tcp
