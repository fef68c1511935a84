// tests/support/npz.h
// SPDX-License-Identifier: Apache-2.0
//
// Reads NumPy .npz files (zip of .npy, stored or deflated): the format of the golden references.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ting::testing {

struct NpyArray {
  std::string dtype;  // numpy's: "<f4", "<i8", "|b1", "<U30"
  std::vector<int64_t> shape;
  std::vector<unsigned char> bytes;  // row-major

  int64_t size() const {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return n;
  }
  // Elements converted to T from f2, f4, f8, i2, i4, i8, u1, b1; throws std::runtime_error on other types.
  template <typename T>
  std::vector<T> As() const;
  std::vector<std::string> AsStrings() const;  // from <U…>, as UTF-8
};

class Npz {
 public:
  // Throws std::runtime_error with the reason: a test without its golden cannot go on.
  static Npz Load(const std::string& path);
  bool Has(const std::string& name) const { return arrays_.contains(name); }
  const NpyArray& operator[](const std::string& name) const;  // throws, naming the array
  const std::map<std::string, NpyArray>& arrays() const { return arrays_; }

 private:
  std::map<std::string, NpyArray> arrays_;
};

}  // namespace ting::testing
