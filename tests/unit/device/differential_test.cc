// The same random frames through a device that coalesces and one that does not mean the same to a receiver: byte
// streams, FINs, RSTs, acknowledgments, windows, duplicate ACKs.
#include <map>
#include <set>

#include "libtto/base/rng.hh"
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

constexpr uint16_t kFlows = 4;

/// What a receiver makes of the completions of one flow.
struct Meaning {
  std::map<uint32_t, std::byte> bytes;  // by distance from the first sequence number; the first copy wins
  std::set<uint32_t> fins, resets;      // their sequence numbers
  uint32_t ack = 0;
  uint16_t window = 0;
  uint64_t duplicate_acks = 0;
  uint64_t segments = 0;
  uint64_t urgent = 0, ce_bytes = 0;
  bool operator==(const Meaning&) const = default;
};

struct Script {
  std::vector<std::vector<PeerSegment>> bursts;
};

/// A peer that loses, repeats, reorders and marks.
Script make_script(Rng& rng, uint32_t first) {
  Script script;
  uint32_t next[kFlows], ack[kFlows], clock = 1000;
  for (auto& n : next) n = first;
  for (auto& a : ack) a = 5000;
  bool finished[kFlows] = {};
  const size_t bursts = rng.between(1, 12);
  for (size_t i = 0; i < bursts; ++i) {
    std::vector<PeerSegment> burst;
    for (uint64_t left = rng.between(1, 40); left > 0; --left) {
      const auto f = static_cast<uint16_t>(rng.below(kFlows));
      if (finished[f]) continue;
      PeerSegment s{.seq = next[f], .ack = ack[f], .remote_port = static_cast<uint16_t>(100 + f)};
      if (rng.chance_ppm(400'000)) s.ack = ack[f] += static_cast<uint32_t>(rng.between(1, 3000));
      if (rng.chance_ppm(20'000)) s.ack -= static_cast<uint32_t>(rng.between(1, 50));
      s.window = static_cast<uint16_t>(rng.chance_ppm(900'000) ? 500 : rng.between(0, 600));
      s.ttl = static_cast<uint8_t>(rng.between(60, 64));
      if (rng.chance_ppm(30'000)) s.tos = wire::kCe;
      s.options.has_timestamps = !rng.chance_ppm(20'000);
      if (s.options.has_timestamps) s.options.ts_val = clock += static_cast<uint32_t>(rng.below(2));
      if (rng.chance_ppm(30'000)) {
        s.options.sack_count = 1;
        s.options.sack[0] = {{ack[f] + 100}, {ack[f] + 200}};
      }
      if (rng.chance_ppm(700'000)) {
        const uint32_t bytes = static_cast<uint32_t>(rng.between(1, 1400));
        if (rng.chance_ppm(50'000)) s.seq += static_cast<uint32_t>(rng.between(1, 3000));  // beyond a hole
        if (rng.chance_ppm(50'000)) s.seq -= static_cast<uint32_t>(rng.between(1, next[f] - first + 1) - 1);  // again
        s.payload.resize(bytes);
        for (uint32_t k = 0; k < bytes; ++k) s.payload[k] = static_cast<std::byte>(((s.seq + k - first) * 7 + f) >> 2);
        if (s.seq == next[f]) next[f] += bytes;
        if (rng.chance_ppm(150'000)) s.flags |= kPsh;
      }
      if (rng.chance_ppm(10'000)) s.flags |= kUrg, s.urgent_pointer = 1;
      if (rng.chance_ppm(5'000)) s.flags |= kEce;
      if (rng.chance_ppm(3'000)) s.flags |= kRst;
      if (rng.chance_ppm(5'000) && s.seq + s.payload.size() == next[f]) s.flags |= kFin, finished[f] = true;
      s.bad_checksum = rng.chance_ppm(5'000) && (s.flags & kFin) == 0;
      burst.push_back(s);
    }
    script.bursts.push_back(burst);
  }
  return script;
}

void apply(Meaning& m, const ReceiveCompletion& c, const Bytes& payload, uint32_t first) {
  const tcp::SegmentIn& s = c.segment;
  m.segments += s.segments_merged;
  for (size_t i = 0; i < payload.size(); ++i) m.bytes.emplace(static_cast<uint32_t>(s.seq.raw + i - first), payload[i]);
  if ((s.flags & kFin) != 0) m.fins.insert(s.seq.raw + s.payload_bytes);
  if ((s.flags & kRst) != 0) m.resets.insert(s.seq.raw);
  if ((s.flags & kUrg) != 0) ++m.urgent;
  if (s.ip_tos == wire::kCe) m.ce_bytes += s.payload_bytes;
  const auto advance = static_cast<int32_t>(s.ack.raw - m.ack);
  // RFC 5681 §2, as an engine sees it: no payload, no news.
  if (payload.empty() && s.ack.raw == m.ack && s.window == m.window && (s.flags & kFin) == 0) ++m.duplicate_acks;
  if (m.ack == 0 || advance >= 0) {
    m.ack = s.ack.raw;
    m.window = s.window;
  }
}

std::map<uint16_t, Meaning> run(const Script& script, uint64_t seed, uint32_t first, bool coalesce, uint64_t* merged) {
  Rng rng(seed);
  DeviceConfig config{.coalesce = coalesce};
  config.ral_bytes = static_cast<uint32_t>(rng.between(1000, 65536));
  if (rng.chance_ppm(300'000)) config.timeout_aggregation = microseconds(50);
  Bench b(config, {}, 512);
  std::map<uint16_t, Meaning> meanings;
  std::map<uint64_t, Bytes> buffers;  // posted, by wr_id
  uint64_t next_wr = 1;
  FlowId ids[kFlows];
  for (uint16_t f = 0; f + 1 < kFlows; ++f) ids[f] = b.bind(static_cast<uint16_t>(100 + f));  // the last is autonomous
  const auto take_all = [&] {
    for (const auto& r : b.poll()) {
      Bytes payload = r.payload;
      if (r.completion.in_rq_buffer) {
        const Bytes& buffer = buffers.at(r.completion.wr_id);
        payload.assign(buffer.begin(), buffer.begin() + r.completion.segment.payload_bytes);
      }
      apply(meanings[r.completion.key.tuple.remote_port], r.completion, payload, first);
    }
  };
  for (const auto& burst : script.bursts) {
    const size_t f = rng.below(kFlows - 1);
    if (rng.chance_ppm(300'000)) {
      Bytes& buffer = buffers[next_wr];
      buffer.resize(rng.between(1, 5000));
      EXPECT_TRUE(b.device().post_receive(ids[f], buffer.data(), static_cast<uint32_t>(buffer.size()), next_wr));
      ++next_wr;
    }
    for (const PeerSegment& s : burst) b.send(s);
    while (b.pull(rng.between(1, 20)) > 0) {
      if (rng.chance_ppm(500'000)) take_all();
    }
    b.now = b.now + microseconds(static_cast<int64_t>(rng.below(100)));
    b.device().expire(b.now);
    take_all();
  }
  b.device().expire(b.now + seconds(1));
  take_all();
  *merged += b.count(Counter::rx_segment_merged);
  return meanings;
}

TEST(Coalescer, differential__coalesced_or_not_the_frames_mean_the_same) {
  uint64_t merged_on = 0, merged_off = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    const uint32_t first = seed % 2 == 0 ? 0xffffe000u : static_cast<uint32_t>(rng.between(1, 1u << 31));
    const Script script = make_script(rng, first);
    const auto on = run(script, seed, first, true, &merged_on);
    const auto off = run(script, seed, first, false, &merged_off);
    ASSERT_EQ(on.size(), off.size());
    for (const auto& [port, meaning] : off) {
      SCOPED_TRACE("flow " + std::to_string(port));
      const Meaning& other = on.at(port);
      EXPECT_EQ(other.bytes, meaning.bytes);
      EXPECT_EQ(other.fins, meaning.fins);
      EXPECT_EQ(other.resets, meaning.resets);
      EXPECT_EQ(other.ack, meaning.ack);
      EXPECT_EQ(other.window, meaning.window);
      EXPECT_EQ(other.segments, meaning.segments);
      EXPECT_EQ(other.urgent, meaning.urgent);
      EXPECT_EQ(other.ce_bytes, meaning.ce_bytes);
      EXPECT_EQ(other.duplicate_acks, meaning.duplicate_acks);
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(merged_on, 1000u);
  EXPECT_EQ(merged_off, 0u);
}

}  // namespace
}  // namespace tto::device
