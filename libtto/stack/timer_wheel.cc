#include "libtto/stack/timer_wheel.hh"

#include <algorithm>
#include <bit>

namespace tto::stack {

void TimerWheel::arm(Timer& timer, Instant at) {
  if (timer.at == at && timer.is_linked()) return;
  cancel(timer);
  if (at == kNever) return;
  timer.at = at;
  place(timer);
}

void TimerWheel::cancel(Timer& timer) {
  if (!timer.is_linked()) return;
  timer.unlink();
  timer.at = kNever;
  if (lists_[timer.level][timer.place].empty()) occupied_[timer.level] &= ~(uint64_t{1} << timer.place);
}

void TimerWheel::place(Timer& timer) {
  const uint64_t tick = std::max(tick_of(timer.at), tick_);
  int level = 0;
  while (level < kLevels - 1 && (tick >> (kPlaceBits * level)) - (tick_ >> (kPlaceBits * level)) >= kPlaces) ++level;
  uint64_t number = tick >> (kPlaceBits * level);
  // Beyond the last level: as far away as it reaches, and placed again from there.
  number = std::min(number, (tick_ >> (kPlaceBits * level)) + kPlaces - 1);
  timer.level = static_cast<uint8_t>(level);
  timer.place = static_cast<uint8_t>(number % kPlaces);
  lists_[level][timer.place].push_back(timer);
  occupied_[level] |= uint64_t{1} << timer.place;
}

// A due timer of the current tick.
TimerWheel::Timer* TimerWheel::take_due(Instant now) {
  IntrusiveList& list = lists_[0][tick_ % kPlaces];
  for (IntrusiveNode* n = list.first(); n != nullptr; n = list.next(n)) {
    auto* timer = static_cast<Timer*>(n);
    if (timer->at > now) continue;
    cancel(*timer);
    return timer;
  }
  return nullptr;
}

TimerWheel::Timer* TimerWheel::take_expired(Instant now) {
  const uint64_t target = tick_of(now);
  while (true) {
    if (Timer* timer = take_due(now); timer != nullptr) return timer;
    if (tick_ >= target) return nullptr;
    advance(target);
  }
}

// To the next tick that has a timer or at which an occupied place of a higher level is spread out, at most to `to`. Empty
// places are jumped over: hours may lie between two calls, and days before the first.
void TimerWheel::advance(uint64_t to) {
  uint64_t next = to;
  for (int level = 0; level < kLevels; ++level) {
    const uint64_t after = (tick_ >> (kPlaceBits * level)) + 1;
    const uint64_t ahead = std::rotr(occupied_[level], static_cast<int>(after % kPlaces));
    if (ahead == 0) continue;
    next = std::min(next, (after + static_cast<uint64_t>(std::countr_zero(ahead))) << (kPlaceBits * level));
  }
  tick_ = next;
  for (int level = kLevels - 1; level > 0; --level) {
    if (tick_ % (uint64_t{1} << (kPlaceBits * level)) == 0) cascade(level);
  }
}

void TimerWheel::cascade(int level) {
  const uint64_t number = (tick_ >> (kPlaceBits * level)) % kPlaces;
  IntrusiveList& list = lists_[level][number];
  occupied_[level] &= ~(uint64_t{1} << number);
  IntrusiveList moved;
  while (IntrusiveNode* n = list.pop_front()) moved.push_back(*n);
  while (IntrusiveNode* n = moved.pop_front()) place(*static_cast<Timer*>(n));
}

Instant TimerWheel::next() const {
  Instant earliest = kNever;
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const uint64_t current = tick_ >> (kPlaceBits * level);
    const auto ahead = static_cast<uint64_t>(std::countr_zero(std::rotr(occupied_[level], static_cast<int>(current % kPlaces))));
    Instant at{static_cast<int64_t>((current + ahead) << (kPlaceBits * level + kTickBits))};
    if (level == 0) {
      auto& list = const_cast<IntrusiveList&>(lists_[0][(current + ahead) % kPlaces]);
      Instant first = kNever;
      int looked_at = 0;
      for (IntrusiveNode* n = list.first(); n != nullptr && looked_at < 8; n = list.next(n), ++looked_at) {
        first = std::min(first, static_cast<Timer*>(n)->at);
      }
      if (looked_at < 8) at = std::max(at, first);
    }
    earliest = std::min(earliest, at);
  }
  return earliest;
}

}  // namespace tto::stack
