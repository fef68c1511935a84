// tools/ting/statistics.h
// SPDX-License-Identifier: Apache-2.0
//
// The few statistics that reports print, and the process's own memory.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

namespace ting::tool {

// The value that a share `q` of the sample does not exceed (nearest rank); 0 for an empty sample.
inline double Quantile(std::vector<double> sample, double q) {
  if (sample.empty()) return 0;
  std::sort(sample.begin(), sample.end());
  const double rank = std::ceil(q * static_cast<double>(sample.size()));
  return sample[static_cast<size_t>(std::clamp(rank, 1.0, static_cast<double>(sample.size()))) - 1];
}

// The middle value, or the mean of the two middle ones.
inline double Median(const std::vector<double>& sample) {
  if (sample.size() % 2 == 1) return Quantile(sample, 0.5);
  std::vector<double> sorted = sample;
  std::sort(sorted.begin(), sorted.end());
  return sorted.empty() ? 0 : (sorted[sorted.size() / 2 - 1] + sorted[sorted.size() / 2]) / 2;
}

inline double MinOf(const std::vector<double>& sample) {
  return sample.empty() ? 0 : *std::min_element(sample.begin(), sample.end());
}
inline double MaxOf(const std::vector<double>& sample) {
  return sample.empty() ? 0 : *std::max_element(sample.begin(), sample.end());
}

// The largest resident size that this process has had.
inline double PeakRssMb() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;  // Linux counts KiB
}

class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ting::tool
