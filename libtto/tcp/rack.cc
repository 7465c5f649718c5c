#include "libtto/tcp/rack.hh"

#include <algorithm>

namespace tto::tcp {

void Rack::on_delivered(ByteRange part, const SendLog::Record& record, const Clock& clock) {
  if (!record.is_resent && part.end < highest_) has_seen_reordering_ = true;
  highest_in_ack_ = std::max(highest_in_ack_, part.end);
  const Instant sent = record.first();
  const Duration rtt = clock.now - sent;
  // What was resent may be acknowledged because the first copy came; then it tells nothing (§6.2 step 2).
  if (record.is_resent && (record.last >= clock.echo_before || rtt < clock.min_rtt)) return;
  if (sent < newest_at_ || (sent == newest_at_ && part.end <= newest_end_)) return;
  newest_at_ = sent;
  newest_end_ = part.end;
  rtt_ = rtt;
}

void Rack::on_duplicate(StreamOffset una, StreamOffset nxt) {
  recoveries_left_ = kRecoveriesKept;
  if (una < round_end_) return;
  round_end_ = nxt;
  if (quarters_ < kMostQuarters) ++quarters_;
}

void Rack::on_recovered() {
  if (recoveries_left_ != 0 && --recoveries_left_ == 0) quarters_ = 1;
}

Duration Rack::tolerance(bool is_certain, const Clock& clock) const {
  if (!has_seen_reordering_ && is_certain) return {};
  return std::min(clock.min_rtt * quarters_ / 4, clock.srtt);
}

ByteRange Rack::sent_before_newest(ByteRange part, const SendLog::Record& record) const {
  if (record.last < newest_at_) return part;
  if (record.first() > newest_at_) return {};
  return {part.begin, std::min(part.end, newest_end_)};
}

}  // namespace tto::tcp
