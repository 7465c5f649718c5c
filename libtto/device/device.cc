// The device's parts put together; each function in the order a frame meets it.
#include "libtto/device/device.hh"

#include <algorithm>

#include "libtto/device/classifier.hh"
#include "libtto/device/coalescer.hh"
#include "libtto/device/flow_table.hh"
#include "libtto/device/payload.hh"
#include "libtto/device/rings.hh"
#include "libtto/device/segmenter.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::device {

using stats::Counter;
using stats::DropReason;
using Target = ReceiveCompletion::Target;

struct Device::Impl {
  static constexpr size_t kMaxBurstSlices = 256;

  Impl(const DeviceConfig& device_config, memory::FramePool& frame_pool, stats::Counters& all_counters)
      : config(device_config),
        pool(frame_pool),
        counters(all_counters),
        flows(config.flow_capacity, config.hash_secret),
        listeners(config.listener_capacity, config.hash_secret),
        cq(config.cq_entries),
        rq(config.rq_entries),
        sq(config.sq_entries),
        send_completions(config.sq_entries),
        stock(pool, counters),
        classifier(pool, counters),
        coalescer(config, {flows, cq, rq, pool, counters}),
        segmenter(flows, pool, counters, config.look_ahead) {}

  void take_frame(std::span<const port::FrameSlice> chain, bool accepts_partial, Arrival& arrival, Instant now);
  void take_segment(Arrival& arrival, Instant now);
  uint32_t make_autonomous(const FlowKey& key);
  void retire(uint32_t index);
  void resolve(ReceiveCompletion& completion);

  const DeviceConfig config;
  memory::FramePool& pool;
  stats::Counters& counters;
  FlowTable flows;
  ListenTable listeners;
  BoundedRing<ReceiveCompletion> cq;
  ReceiveRing rq;
  BoundedRing<SendWork> sq;
  BoundedRing<SendCompletion> send_completions;
  size_t signaled = 0;  // requests in the SQ, done or not, and completions not polled
  GeneralStock stock;
  Classifier classifier;
  Coalescer coalescer;
  Segmenter segmenter;
};

Device::Device(const DeviceConfig& config, memory::FramePool& pool, stats::Counters& counters)
    : impl_(std::make_unique<Impl>(config, pool, counters)) {}

/// Frames that nobody has polled go back to the pool; those at the port are the port's.
Device::~Device() {
  for (uint32_t index = impl_->flows.active().first(); index != kNoIndex; index = impl_->flows.active().next(index)) {
    impl_->pool.drop_chain(impl_->flows.at(index).gathered.head, TTO_FRAME_RECEIVED);
  }
  for (; !impl_->cq.empty(); impl_->cq.pop()) impl_->pool.drop_chain(impl_->cq.front().head, TTO_FRAME_RECEIVED);
}

// --- receive -------------------------------------------------------------------------------------------------------

size_t Device::pull_frames(port::FramePort& port, Instant now, size_t burst) {
  Impl& d = *impl_;
  port::FrameSlice slices[Impl::kMaxBurstSlices];
  const size_t fit = d.coalescer.frames_that_fit();
  if (fit < burst) d.counters.add_owned(Counter::cq_backpressure);
  const size_t wanted = std::min({burst, fit, Impl::kMaxBurstSlices});
  const size_t count = wanted == 0 ? 0 : port.rx_burst({slices, wanted}, now);

  const port::PortCaps& caps = port.caps();
  Arrival arrival;
  for (std::span<const port::FrameSlice> left{slices, count}; !left.empty();) {
    const size_t length = chain_length(left);
    if (length == 0) {
      d.counters.add_owned(Counter::rx_frame);
      d.classifier.drop(left, DropReason::k_bad_chain);
      break;
    }
    d.take_frame(left.first(length), caps.accepts_partial_checksum, arrival, now);
    left = left.subspan(length);
  }
  // A port returns whole chains, so a few places left over do not mean that it had no more. A burst cut short by a full
  // CQ says nothing either, but then nothing is gained by holding back.
  d.coalescer.end_burst(count + caps.max_slices <= burst, now);
  d.stock.note_taken(count);
  d.stock.replenish(port, count == 0);
  return count;
}

void Device::Impl::take_frame(std::span<const port::FrameSlice> chain, bool accepts_partial, Arrival& arrival,
                              Instant now) {
  if (!classifier.classify(chain, accepts_partial, arrival)) return;
  if (arrival.completion.target != Target::kIcmp) return take_segment(arrival, now);
  const uint32_t index = flows.find(arrival.completion.key);
  if (index == kNoIndex || !flows.at(index).bound) return counters.drop(DropReason::k_ip_protocol);
  arrival.completion.flow = flows.id_of(index);
  arrival.completion.termination = Termination::kNotGathered;
  coalescer.pass(arrival.completion);
}

void Device::Impl::take_segment(Arrival& arrival, Instant now) {
  const tcp::SegmentIn& segment = arrival.completion.segment;
  uint32_t index = flows.find(arrival.completion.key);
  if (index == kNoIndex) {
    if (!verify_payload(pool, arrival)) {
      counters.drop(DropReason::k_tcp_checksum);
      return pool.drop_chain(arrival.completion.head, TTO_FRAME_RECEIVED);
    }
    // D2: only payload makes a flow; and what opens or ends one has nothing to be gathered.
    const bool opens_or_ends = (segment.flags & (wire::kSyn | wire::kRst | wire::kFin)) != 0;
    if (config.coalesce && segment.payload_bytes > 0 && !opens_or_ends) {
      index = make_autonomous(arrival.completion.key);
    }
    if (index == kNoIndex) {
      arrival.completion.termination = Termination::kNotGathered;
      return coalescer.pass(arrival.completion);
    }
    arrival.is_verified = true;
  }
  const bool ends = (segment.flags & (wire::kRst | wire::kFin)) != 0;
  coalescer.on_segment(index, arrival, now);
  if (ends && !flows.at(index).bound) retire(index);
}

uint32_t Device::Impl::make_autonomous(const FlowKey& key) {
  uint32_t index = flows.insert(key);
  if (index == kNoIndex && flows.least_recently_used() != kNoIndex) {
    counters.add_owned(Counter::flow_evicted);
    retire(flows.least_recently_used());
    index = flows.insert(key);
  }
  if (index != kNoIndex) counters.add_owned(Counter::flow_autonomous);
  return index;
}

void Device::Impl::retire(uint32_t index) {
  coalescer.deliver(index, Termination::kRetired);
  flows.erase(index);
}

void Device::expire(Instant now) {
  Impl& d = *impl_;
  d.coalescer.expire(now);
  for (uint32_t index = d.flows.least_recently_used();
       index != kNoIndex && d.flows.at(index).last_activity + d.config.terminate_no_activity_time <= now;
       index = d.flows.least_recently_used()) {
    d.counters.add_owned(Counter::flow_idle);
    d.retire(index);
  }
}

size_t Device::ready_frames() const { return impl_->stock.ready_frames(); }

Instant Device::next_deadline() const { return impl_->coalescer.next_deadline(); }

size_t Device::poll(std::span<ReceiveCompletion> out) {
  Impl& d = *impl_;
  size_t count = 0;
  while (count < out.size() && !d.cq.empty()) {
    ReceiveCompletion& completion = out[count];
    completion = d.cq.front();
    d.cq.pop();
    const bool is_icmp = completion.target == Target::kIcmp;
    d.resolve(completion);
    if (is_icmp && !completion.flow) {  // the flow went while the error waited
      d.counters.drop(DropReason::k_ip_protocol);
      continue;
    }
    const bool is_ours = completion.target == Target::kFlow || completion.target == Target::kListener;
    d.counters.add_owned(is_ours ? Counter::rx_frame_delivered : Counter::rx_frame_passed,
                         completion.segment.segments_merged);
    ++count;
  }
  return count;
}

/// Whose a completion is, decided when it is handed out: flows and listeners may have come or gone since it was made.
void Device::Impl::resolve(ReceiveCompletion& completion) {
  const FlowContext* flow = flows.bound(completion.flow);
  if (flow == nullptr) {
    const uint32_t index = flows.find(completion.key);
    const bool is_bound = index != kNoIndex && flows.at(index).bound;
    completion.flow = is_bound ? flows.id_of(index) : FlowId{};
    flow = is_bound ? &flows.at(index) : nullptr;
  }
  if (flow != nullptr) {
    completion.cookie = flow->cookie;
    if (completion.target != Target::kIcmp) completion.target = Target::kFlow;
    return;
  }
  if (completion.target == Target::kIcmp) return;
  const uint64_t* listener = listeners.find(completion.key.tuple.local, completion.key.tuple.local_port);
  completion.target = listener != nullptr ? Target::kListener : Target::kNone;
  completion.cookie = listener != nullptr ? *listener : 0;
}

bool Device::post_receive(FlowId id, void* buffer, uint32_t bytes, uint64_t wr_id) {
  FlowContext* flow = impl_->flows.bound(id);
  if (flow == nullptr || buffer == nullptr || bytes == 0) return false;
  return impl_->rq.post(*flow, buffer, bytes, wr_id);
}

uint32_t Device::withdraw_receive(FlowId id, uint64_t wr_id) {
  FlowContext* flow = impl_->flows.bound(id);
  if (flow == nullptr || impl_->rq.remove(*flow, wr_id)) return 0;
  if (!flow->gathering || !flow->gathered.in_rq_buffer || flow->gathered.wr_id != wr_id) return 0;
  const uint32_t placed = flow->gathered.segment.payload_bytes;
  impl_->coalescer.deliver(id.index, Termination::kNoBuffer);
  return placed;
}

// --- send ----------------------------------------------------------------------------------------------------------

SendStatus Device::post_send(const SendRequest& request) {
  Impl& d = *impl_;
  const SendStatus status = d.segmenter.validate(request);
  if (status != SendStatus::kOk) {
    d.counters.add_owned(Counter::sq_refused);
    return status;
  }
  // Every signaled request in the SQ has its place among the completions.
  if (request.signaled && d.signaled == d.send_completions.capacity()) return SendStatus::kNoSpace;
  if (!d.sq.push({request, request.segment.payload.begin, request.head, false})) return SendStatus::kNoSpace;
  if (request.signaled) ++d.signaled;
  d.counters.add_owned(Counter::sq_request);
  return SendStatus::kOk;
}

size_t Device::push_frames(port::FramePort& port, Instant now) {
  return impl_->segmenter.push(port, impl_->sq, impl_->send_completions, now);
}

size_t Device::poll_sends(std::span<SendCompletion> out) {
  Impl& d = *impl_;
  size_t count = 0;
  for (; count < out.size() && !d.send_completions.empty(); ++count) {
    out[count] = d.send_completions.front();
    d.send_completions.pop();
    --d.signaled;
  }
  return count;
}

bool Device::send_unbound(port::FramePort& port, const FlowKey& key, const PathHeaders& path,
                          const tcp::SegmentOut& segment, Instant now) {
  return impl_->segmenter.send_unbound(port, key, path, segment, now);
}

bool Device::has_work_queued() const { return !impl_->sq.empty(); }

void Device::arm(Arm kind, void (*notify)(void*), void* context) { impl_->coalescer.arm(kind, notify, context); }

// --- tables --------------------------------------------------------------------------------------------------------

FlowId Device::bind_flow(const FlowKey& key, uint64_t cookie, uint32_t owner_slot) {
  Impl& d = *impl_;
  uint32_t index = d.flows.find(key);
  if (index != kNoIndex && d.flows.at(index).bound) return {};
  if (index == kNoIndex) index = d.flows.insert(key);
  if (index == kNoIndex && d.flows.least_recently_used() != kNoIndex) {
    d.counters.add_owned(Counter::flow_evicted);
    d.retire(d.flows.least_recently_used());
    index = d.flows.insert(key);
  }
  if (index == kNoIndex) return {};
  d.flows.bind(index, cookie, owner_slot);
  d.counters.add_owned(Counter::flow_bound);
  return d.flows.id_of(index);
}

void Device::set_path(FlowId id, const PathHeaders& path) {
  if (FlowContext* flow = impl_->flows.bound(id); flow != nullptr) flow->path = path;
}

void Device::unbind_flow(FlowId id) {
  FlowContext* flow = impl_->flows.bound(id);
  if (flow == nullptr) return;
  impl_->rq.clear(*flow);
  impl_->retire(id.index);
}

bool Device::add_listener(const wire::IpAddress& address, uint16_t port, uint64_t cookie) {
  return impl_->listeners.add(address, port, cookie);
}

void Device::remove_listener(const wire::IpAddress& address, uint16_t port) { impl_->listeners.remove(address, port); }

FlowId Device::find_flow(const FlowKey& key) const {
  const uint32_t index = impl_->flows.find(key);
  return index != kNoIndex && impl_->flows.at(index).bound ? impl_->flows.id_of(index) : FlowId{};
}

}  // namespace tto::device
