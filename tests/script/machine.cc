#include "tests/script/machine.hh"

#include <cinttypes>
#include <cstdio>

#include "libtto/tcp/isn.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::script {
namespace {

constexpr uint32_t kFrames = 1024, kConnections = 32, kPosted = 512;
constexpr size_t kTraceLines = 25;
constexpr uint32_t kActivePort = 50000;
constexpr Instant kEpoch{1'000'000'000'000};
constexpr Duration kEarly = microseconds(1);  // a step of the clock

std::string seconds_text(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%" PRId64 ".%06" PRId64, d.ns / 1'000'000'000, d.ns / 1000 % 1'000'000);
  return text;
}

std::string joined(const std::vector<std::string>& words, size_t from) {
  std::string text;
  for (size_t i = from; i < words.size(); ++i) text += (i == from ? "" : " ") + words[i];
  return text;
}

bool uses(const std::vector<Statement>& script, const char* word, const char* second = nullptr) {
  for (const Statement& s : script) {
    if (s.words[0] == word && (second == nullptr || (s.words.size() > 1 && s.words[1] == second))) return true;
  }
  return false;
}

}  // namespace

const char* name(Wrap wrap) {
  switch (wrap) {
    case Wrap::kNone: return "any numbers";
    case Wrap::k31: return "numbers around 2^31";
    case Wrap::k32: return "numbers around 2^32";
  }
  return "?";
}

Machine::Machine(const std::vector<Statement>& script, Wrap wrap)
    : script_(script), wrap_(wrap), pool_(kFrames, kConnections), peer_pool_(kFrames), counters_(stats::kCounterCount) {
  is_v6_ = uses(script, "set", "v6");
  options_.syn_retries = 0;  // as said by the sysctl, until the application says otherwise
}

Machine::~Machine() {
  stack_.reset();
  wire_.reset();
  link_.reset();
}

// Numbers near the edge: the stack's come from its clock (R16), so the clock starts at the right time.
void Machine::build_stack() {
  Peer::Addresses at;
  at.stack = stack::address_of(1, is_v6_);
  at.peer = stack::address_of(2, is_v6_);
  at.stack_mac = stack::mac_of(1);
  at.peer_mac = stack::mac_of(2);
  if (!uses(script_, "listen")) at.stack_port = kActivePort;
  now_ = kEpoch;
  const uint32_t half = wrap_ == Wrap::k31 ? 0x80000000u : 0;
  uint32_t irs = 1'000'000;
  if (wrap_ != Wrap::kNone) {
    constexpr uint32_t kSecret[4] = {};
    constexpr int64_t kTickNs = 4000;
    const wire::FourTuple tuple{at.stack, at.peer, at.stack_port, at.peer_port};
    const uint32_t wanted = half - 1500;
    const uint32_t ticks = wanted - tcp::initial_sequence_number(tuple, kSecret, now_);
    now_ = now_ + nanoseconds(ticks * kTickNs);
    irs = half - 700;
  }
  start_ = now_;
  peer_ = std::make_unique<Peer>(at, irs);
  environment_ = std::make_unique<stack::FakeEnvironment>(1, mtu_);
  port::LinkConfig link;
  link.mtu_bytes = mtu_;
  link.max_slices = mtu_ > 3500 ? 4 : 1;
  link_ = std::make_unique<port::MemoryLink>(link, pool_.pool(), peer_pool_.pool());
  wire_ = std::make_unique<testing::PortUser>(link_->end(1), peer_pool_.pool());
  wire_->top_up(kPosted);
  stack::StackConfig config;
  config.device.flow_capacity = 256;
  stack::PortBinding binding;
  binding.port = &link_->end(0);
  binding.region = pool_.region();
  binding.pool = &pool_.pool();
  stack_ = std::make_unique<stack::Stack>(config, binding, *environment_, counters_.data());
}

// --- time ------------------------------------------------------------------------------------------------------------

void Machine::note(const std::string& event) {
  trace_.push_back("    " + seconds_text(now_ - start_) + "  " + event);
  if (trace_.size() > kTraceLines) trace_.pop_front();
}

void Machine::turn() {
  constexpr int kMostTurns = 1000;
  for (int i = 0; i < kMostTurns; ++i) {
    const size_t work = stack_->run_once(now_);
    wire_->reclaim();
    const auto frames = wire_->receive(now_);
    wire_->top_up(kPosted);
    for (const auto& frame : frames) {
      const Seen seen = peer_->look(frame);
      note("out  " + text_of(seen));
      arrived_.push_back({now_, seen});
    }
    if (work == 0 && frames.empty()) return;
  }
  throw Failure("the stack never falls silent");
}

/// Runs the stack up to `end`, or to the first frame that leaves.
void Machine::step_to(Instant end, bool until_frame) {
  while (true) {
    turn();
    if (until_frame && !arrived_.empty()) return;
    const Instant next = stack_->next_deadline();
    if (next > end) break;
    now_ = std::min(end, std::max(next, now_ + kEarly));
    if (next <= end && now_ == end) {
      turn();
      break;
    }
  }
  now_ = end;
}

void Machine::expect_none() {
  if (arrived_.empty()) return;
  throw Failure("unexpected at " + seconds_text(arrived_.front().at - start_) + ": " + text_of(arrived_.front().seen));
}

void Machine::advance(Duration d) {
  if (d.ns > 0) step_to(now_ + d, false);
  expect_none();
}

// --- segments --------------------------------------------------------------------------------------------------------

void Machine::inject(const std::vector<std::byte>& frame, const std::string& text) {
  note("in   " + text);
  if (frame.size() > mtu_ + wire::kEthernetBytes) throw Failure("longer than the link's MTU");
  if (!wire_->send(frame, now_)) throw Failure("no room for the frame");
}

void Machine::expect_out(const Statement& s) {
  const SegmentText expected = parse_segment(s.words, 1);
  const Instant due = now_ + s.after;
  if (s.after.ns > 0 && !arrived_.empty()) expect_none();
  if (arrived_.empty()) step_to(due + s.tolerance, true);
  if (arrived_.empty()) throw Failure("nothing left within " + seconds_text(s.after + s.tolerance) + " s");
  const Arrived got = arrived_.front();
  arrived_.pop_front();
  const std::string what = difference(expected, got.seen);
  if (!what.empty()) throw Failure(what + " differs\n  expected  " + joined(s.words, 1) + "\n  got       " + text_of(got.seen));
  if (got.at < due - kEarly) {
    throw Failure("too early, after " + seconds_text(got.at - (due - s.after)) + " s: " + text_of(got.seen));
  }
}

// --- statements ------------------------------------------------------------------------------------------------------

void Machine::do_statement(const Statement& s, bool next_is_also) {
  const std::string& verb = s.words[0];
  if (stack_ == nullptr) {
    if (do_setting(s.words)) return;
    build_stack();
    turn();  // the stack posts its receive frames
  }
  if (verb == "out") return expect_out(s);
  if (verb == "also" ? s.after.ns != 0 : false) throw Failure("'also' is in the same turn, it takes no time");
  if (verb != "also") advance(s.after);
  if (verb == "in" || verb == "also") {
    inject(peer_->frame(parse_segment(s.words, 1), now_), joined(s.words, 1));
    if (!next_is_also) turn();
    return;
  }
  if (verb == "icmp") {  // icmp TYPE CODE about SEQ [mtu N]
    const Words& w = s.words;
    if (w.size() < 5 || w[3] != "about" || (w.size() != 5 && w.size() != 7)) throw Failure("icmp TYPE CODE about SEQ [mtu N]");
    const auto mtu = static_cast<uint16_t>(w.size() == 7 ? number_of(w[6]) : 0);
    inject(peer_->icmp(static_cast<uint8_t>(number_of(w[1])), static_cast<uint8_t>(number_of(w[2])), number_of(w[4]), mtu),
           joined(w, 0));
    return turn();
  }
  if (verb == "quiet") {
    if (s.words.size() != 2) throw Failure("quiet TIME");
    return advance(duration_of(s.words[1]));
  }
  if (do_check(s.words)) return;
  note("call " + joined(s.words, 0));
  if (!do_call(s.words)) throw Failure("unknown statement '" + verb + "'");
  stack_->push(now_);
  turn();
}

/// Nothing is left to send or to be expected, and every frame had one fate.
void Machine::expect_end() {
  turn();
  expect_none();
  if (!stack_->check_consistency()) throw Failure("frames, slots and queues do not agree at the end");
  const auto count = [&](stats::Counter c) { return counters_[static_cast<size_t>(c)].load(); };
  uint64_t fates = count(stats::Counter::rx_frame_delivered) + count(stats::Counter::rx_frame_passed);
  for (uint8_t r = 1; r < static_cast<uint8_t>(stats::DropReason::kCount); ++r) {
    fates += count(stats::counter_of(static_cast<stats::DropReason>(r)));
  }
  if (count(stats::Counter::rx_frame) != fates) throw Failure("a frame had no fate, or two");
}

std::string Machine::state_text() const {
  if (socket_ == nullptr) return "no connection";
  const tcp::Connection& c = socket_->connection();
  const tcp::Figures f = c.figures();
  const int64_t first_sent = static_cast<int64_t>(c.first_send_byte()) - 1;
  const int64_t first_received = static_cast<int64_t>(c.first_receive_byte()) - 1;
  const auto relative = [](StreamOffset o, int64_t base) { return std::to_string(static_cast<int64_t>(o) - base); };
  return std::string(tcp::name(c.state())) + "  una " + relative(c.snd_una(), first_sent) + " nxt " +
         relative(c.snd_nxt(), first_sent) + " end " + relative(c.snd_end(), first_sent) + " rcv.nxt " +
         relative(c.rcv_nxt(), first_received) + " cwnd " + std::to_string(f.cwnd_bytes) + " ssthresh " +
         std::to_string(f.ssthresh_bytes) + " snd.wnd " + std::to_string(f.snd_wnd_bytes) + " rcv.wnd " +
         std::to_string(f.rcv_wnd_bytes) + " rto " + std::to_string(f.rto.millis()) + " ms";
}

void Machine::run() {
  for (size_t i = 0; i < script_.size(); ++i) {
    const Statement& s = script_[i];
    try {
      do_statement(s, i + 1 < script_.size() && script_[i + 1].words[0] == "also");
      if (i + 1 == script_.size()) {
        if (stack_ == nullptr) throw Failure("it sets things and does nothing");
        expect_end();
      }
    } catch (const Failure& f) {
      std::string text = "line " + std::to_string(s.line) + " (" + name(wrap_) + "): " + s.text + "\n  " + f.what() +
                         "\n  connection: " + state_text() + "\n  the last events:\n";
      for (const std::string& line : trace_) text += line + "\n";
      throw Failure(text);
    }
  }
}

}  // namespace tto::script
