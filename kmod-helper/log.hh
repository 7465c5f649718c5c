// Lines for people on standard error: "ttod: <what happened>". Under systemd they go to the journal with a priority.
#pragma once

namespace ttod {

enum class LogLevel { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

void log_set_level(LogLevel level);
/// Every line carries its priority as "<5>" in front, which journald understands.
void log_set_journal(bool on);
[[gnu::format(printf, 2, 3)]] void log_line(LogLevel level, const char* format, ...);

#define LOG_ERROR(...) ::ttod::log_line(::ttod::LogLevel::kError, __VA_ARGS__)
#define LOG_WARNING(...) ::ttod::log_line(::ttod::LogLevel::kWarning, __VA_ARGS__)
#define LOG_NOTICE(...) ::ttod::log_line(::ttod::LogLevel::kNotice, __VA_ARGS__)
#define LOG_INFO(...) ::ttod::log_line(::ttod::LogLevel::kInfo, __VA_ARGS__)
#define LOG_DEBUG(...) ::ttod::log_line(::ttod::LogLevel::kDebug, __VA_ARGS__)

}  // namespace ttod
