#include "tests/lab/faults.hh"

#include <algorithm>
#include <charconv>
#include <utility>

namespace faults {

namespace {

constexpr size_t kEthernetBytes = 14;

struct Unit {
  std::string_view name;
  double factor;
};

// The longest name that ends the text decides; no name at all is the last.
constexpr Unit kChance[] = {{"%", 1e4}, {"", 1e6}};
constexpr Unit kTime[] = {{"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"s", 1e9}};
constexpr Unit kRate[] = {{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}};
constexpr Unit kSize[] = {{"k", 1024}, {"m", 1048576}, {"", 1}};

template <size_t N>
std::optional<double> number(std::string_view text, const Unit (&units)[N]) {
  for (const Unit& unit : units) {
    if (!text.ends_with(unit.name)) continue;
    const std::string_view digits = text.substr(0, text.size() - unit.name.size());
    double value = 0;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (failed != std::errc{} || end != digits.data() + digits.size() || !(value >= 0 && value < 1e12)) return {};
    return value * unit.factor;
  }
  return {};
}

bool set_word(std::string_view key, std::string_view value, Plan& plan) {
  const std::pair<std::string_view, uint32_t Plan::*> chances[] = {{"loss", &Plan::loss_ppm},
                                                                   {"duplicate", &Plan::duplicate_ppm},
                                                                   {"reorder", &Plan::reorder_ppm},
                                                                   {"corrupt", &Plan::corrupt_ppm},
                                                                   {"corrupt_payload", &Plan::corrupt_payload_ppm}};
  for (const auto& [name, field] : chances) {
    if (key != name) continue;
    const auto ppm = number(value, kChance);
    if (!ppm || *ppm > 1e6) return false;
    plan.*field = static_cast<uint32_t>(*ppm + 0.5);
    return true;
  }
  std::optional<double> found;
  uint64_t Plan::*field = nullptr;
  if (key == "delay") found = number(value, kTime), field = &Plan::delay_ns;
  if (key == "rate") found = number(value, kRate), field = &Plan::bits_per_second;
  if (key == "queue") found = number(value, kSize), field = &Plan::queue_bytes;
  if (!found) return false;
  plan.*field = static_cast<uint64_t>(*found);
  return true;
}

void flip_bit(Frame& frame, size_t first, size_t end, uint64_t position) {
  const size_t bit = position % ((end - first) * 8);
  frame.bytes[first + bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
}

}  // namespace

bool parse_plan(std::string_view text, Plan& plan, std::string& error) {
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos || !set_word(word.substr(0, equals), word.substr(equals + 1), plan)) {
      error = word;
      return false;
    }
  }
  return true;
}

Extent tcp_payload(const uint8_t* frame, size_t bytes) {
  if (bytes < kEthernetBytes + 20) return {};
  const uint8_t* ip = frame + kEthernetBytes;
  const unsigned type = frame[12] << 8 | frame[13];
  size_t tcp = 0, end = 0;
  if (type == 0x0800 && ip[0] >> 4 == 4 && ip[9] == 6) {
    tcp = kEthernetBytes + (ip[0] & 15u) * 4u;
    end = kEthernetBytes + static_cast<size_t>(ip[2] << 8 | ip[3]);
  } else if (type == 0x86dd && bytes >= kEthernetBytes + 40 && ip[6] == 6) {
    tcp = kEthernetBytes + 40;
    end = tcp + static_cast<size_t>(ip[4] << 8 | ip[5]);
  }
  if (tcp == 0 || end > bytes || tcp + 20 > end) return {};
  const size_t first = tcp + (frame[tcp + 12] >> 4) * 4u;
  return first < end ? Extent{first, end} : Extent{};
}

Lane::Dice Lane::throw_dice() {
  Dice dice{};
  dice.lose = rng_.chance_ppm(plan_.loss_ppm);
  dice.duplicate = rng_.chance_ppm(plan_.duplicate_ppm);
  dice.late = rng_.chance_ppm(plan_.reorder_ppm);
  dice.corrupt = rng_.chance_ppm(plan_.corrupt_ppm);
  dice.corrupt_payload = rng_.chance_ppm(plan_.corrupt_payload_ppm);
  dice.position = rng_.next();
  dice.overtakers = rng_.between(1, kMaxOvertakers);
  return dice;
}

// When a frame that comes now has passed the rate limit and the delay; nothing if the queue before the limit is full.
std::optional<uint64_t> Lane::due_at(size_t bytes, uint64_t now) {
  uint64_t at = now;
  if (plan_.bits_per_second > 0) {
    const uint64_t start = std::max(now, busy_until_);
    const double waiting = static_cast<double>(start - now) * static_cast<double>(plan_.bits_per_second) / 8e9;
    if (waiting + static_cast<double>(bytes) > static_cast<double>(plan_.queue_bytes)) return {};
    at = start + static_cast<uint64_t>(static_cast<double>(bytes) * 8e9 / static_cast<double>(plan_.bits_per_second));
    busy_until_ = at;
  }
  return at + plan_.delay_ns;
}

void Lane::arrive(std::unique_ptr<Frame> frame, uint64_t now) {
  const Dice dice = throw_dice();
  ++counts_.frames;
  counts_.bytes += frame->bytes.size();
  if (dice.lose) {
    ++counts_.lost;
    return;
  }
  const auto at = due_at(frame->bytes.size(), now);
  if (!at) {
    ++counts_.queue_dropped;
    return;
  }
  std::unique_ptr<Frame> copy;
  if (dice.duplicate) {
    ++counts_.duplicated;
    copy = std::make_unique<Frame>(*frame);
  }
  if (dice.corrupt && frame->bytes.size() > kEthernetBytes) {
    ++counts_.corrupted;
    flip_bit(*frame, kEthernetBytes, frame->bytes.size(), dice.position);
  }
  if (dice.corrupt_payload) {
    const Extent payload = tcp_payload(frame->bytes.data(), frame->bytes.size());
    if (payload.end > 0) {
      ++counts_.corrupted_payload;
      flip_bit(*frame, payload.first, payload.end, dice.position);
    }
  }
  counts_.reordered += dice.late;
  queue_.push_back({*at, dice.late ? dice.overtakers : 0, std::move(frame)});
  if (copy) queue_.push_back({*at, 0, std::move(copy)});
}

std::unique_ptr<Frame> Lane::leave(uint64_t now) {
  while (!queue_.empty() && queue_.front().at <= now && queue_.front().overtakers > 0) {
    late_.push_back(std::move(queue_.front()));
    late_.back().at += kMaxLate;
    queue_.pop_front();
  }
  std::unique_ptr<Frame> frame;
  const auto late =
      std::find_if(late_.begin(), late_.end(), [&](const Held& h) { return h.overtakers == 0 || h.at <= now; });
  if (late != late_.end()) {
    frame = std::move(late->frame);
    late_.erase(late);
  } else if (!queue_.empty() && queue_.front().at <= now) {
    frame = std::move(queue_.front().frame);
    queue_.pop_front();
    for (Held& held : late_) --held.overtakers;
  }
  counts_.left += frame != nullptr;
  return frame;
}

uint64_t Lane::next_event() const {
  uint64_t next = queue_.empty() ? UINT64_MAX : queue_.front().at;
  for (const Held& late : late_) next = std::min(next, late.overtakers > 0 ? late.at : 0);
  return next;
}

}  // namespace faults
