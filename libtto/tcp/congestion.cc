#include "libtto/tcp/congestion.hh"

#include <algorithm>

namespace tto::tcp {

void Congestion::init(Kind kind, uint32_t mss_bytes, uint32_t initial_window_bytes) {
  *this = Congestion{};
  kind_ = kind;
  mss_ = std::max<uint32_t>(mss_bytes, 1);
  cwnd_ = std::max(initial_window_bytes, mss_);
}

void Congestion::set_cwnd(uint64_t bytes) {
  cwnd_ = static_cast<uint32_t>(std::clamp<uint64_t>(bytes, mss_, kMaxWindowBytes));
}

void Congestion::on_ack(const AckEvent& event) {
  if (!event.is_cwnd_limited) return;
  uint32_t acked = event.newly_acked_bytes;
  if (is_slow_start()) {
    // Bytes, not acknowledgements, are counted, so that merged or delayed ones open the window as fast (RFC 3465).
    const uint32_t step = std::min(acked, ssthresh_ - cwnd_);
    set_cwnd(uint64_t{cwnd_} + step);
    acked -= step;
    if (acked == 0) return;
  }
  if (kind_ == Kind::kReno) {
    set_cwnd(uint64_t{cwnd_} + reno_.increase(acked, cwnd_, mss_));
    return;
  }
  const double mss = mss_;
  const double grown = cubic_.on_ack(acked / mss, cwnd_ / mss, event.srtt, event.now) * mss;
  set_cwnd(grown < kMaxWindowBytes ? static_cast<uint64_t>(grown) : kMaxWindowBytes);
}

void Congestion::on_loss(const LossEvent& event) {
  if (kind_ == Kind::kReno) {
    ssthresh_ = Reno::reduced(event.flight_bytes, mss_);
    reno_.reset();
  } else {
    const double mss = mss_;
    ssthresh_ = std::max(static_cast<uint32_t>(cubic_.on_loss(event.flight_bytes / mss, cwnd_ / mss) * mss), 2 * mss_);
  }
  if (event.is_timeout) {
    cubic_.on_timeout();
    cwnd_ = mss_;
  }
}

void Congestion::undo(const Congestion& before) {
  cwnd_ = std::max(cwnd_, before.cwnd_);
  ssthresh_ = std::max(ssthresh_, before.ssthresh_);
  reno_ = before.reno_;
  cubic_ = before.cubic_;
}

void Congestion::on_idle(Duration idle, uint32_t restart_window_bytes) {
  cubic_.on_idle(idle);
  if (restart_window_bytes != 0) cwnd_ = std::min(cwnd_, std::max(restart_window_bytes, mss_));
}

}  // namespace tto::tcp
