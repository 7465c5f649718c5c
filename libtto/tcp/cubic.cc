#include "libtto/tcp/cubic.hh"

#include <algorithm>

namespace tto::tcp {
namespace {

// Newton's method; x >= 0. No libm in a library that is preloaded.
double cube_root(double x) {
  if (x <= 0) return 0;
  double r = 1;
  while (r * r * r < x) r *= 2;
  for (int i = 0; i < 12; ++i) r -= (r * r * r - x) / (3 * r * r);
  return r;
}

constexpr double to_seconds(Duration d) { return static_cast<double>(d.ns) * 1e-9; }

}  // namespace

void Cubic::begin_epoch(double cwnd, Instant now) {
  in_epoch_ = true;
  epoch_start_ = now;
  w_est_ = cwnd;
  if (cwnd >= w_max_) {
    w_max_ = cwnd;
    k_ = 0;
  } else {
    k_ = cube_root((w_max_ - cwnd) / kC);
  }
}

double Cubic::on_ack(double acked, double cwnd, Duration srtt, Instant now) {
  if (!in_epoch_) begin_epoch(cwnd, now);

  // §4.3: alpha makes the Reno-friendly estimate as fast as Reno with its factor 0.5, until it passes the old window.
  const double alpha = w_est_ < cwnd_prior_ ? 3 * (1 - kBeta) / (1 + kBeta) : 1;
  w_est_ += alpha * acked / cwnd;

  const double t = to_seconds(now - epoch_start_);
  const double now_distance = t - k_;
  const double w_cubic = kC * now_distance * now_distance * now_distance + w_max_;
  if (w_cubic < w_est_) return std::max(cwnd, w_est_);

  const double distance = t + to_seconds(srtt) - k_;
  const double target = std::clamp(kC * distance * distance * distance + w_max_, cwnd, 1.5 * cwnd);
  return cwnd + (target - cwnd) / cwnd * acked;
}

double Cubic::on_loss(double flight, double cwnd) {
  cwnd_prior_ = cwnd;
  w_max_ = cwnd < w_max_ ? cwnd * (1 + kBeta) / 2 : cwnd;
  in_epoch_ = false;
  return flight * kBeta;
}

void Cubic::on_timeout() { in_epoch_ = false; }

void Cubic::on_idle(Duration idle) { epoch_start_ = epoch_start_ + idle; }

}  // namespace tto::tcp
