// tests/support/npz.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/npz.h"

#include <zip.h>

#include <cstring>
#include <memory>
#include <regex>
#include <stdexcept>

#include "base/bfloat16.h"

namespace ting::testing {
namespace {

[[noreturn]] void Fail(const std::string& what) { throw std::runtime_error(what); }

// Column-major bytes (a transposed view was saved) into row-major order.
void MakeRowMajor(NpyArray& array) {
  const size_t rank = array.shape.size();
  if (rank < 2 || array.size() == 0) return;
  const size_t element = array.bytes.size() / array.size();
  std::vector<unsigned char> out(array.bytes.size());
  std::vector<int64_t> index(rank, 0);
  for (int64_t i = 0; i < array.size(); ++i) {
    size_t from = 0;
    for (size_t axis = rank; axis-- > 0;) from = from * array.shape[axis] + index[axis];
    std::memcpy(out.data() + i * element, array.bytes.data() + from * element, element);
    for (size_t axis = rank; axis-- > 0 && ++index[axis] == array.shape[axis];) index[axis] = 0;
  }
  array.bytes = std::move(out);
}

NpyArray ParseNpy(const std::vector<unsigned char>& file, const std::string& name) {
  if (file.size() < 10 || std::memcmp(file.data(), "\x93NUMPY", 6) != 0) Fail(name + ": not an .npy");
  const size_t header_at = file[6] == 1 ? 10 : 12;
  const size_t header_size = file[6] == 1
                                 ? file[8] | file[9] << 8
                                 : file[8] | file[9] << 8 | file[10] << 16 | static_cast<size_t>(file[11]) << 24;
  const std::string header(file.begin() + header_at, file.begin() + header_at + header_size);
  NpyArray array;
  std::smatch match;
  if (!std::regex_search(header, match, std::regex("'descr': '([^']*)'"))) Fail(name + ": no dtype");
  array.dtype = match[1];
  if (!std::regex_search(header, match, std::regex("'shape': \\(([^)]*)\\)"))) Fail(name + ": no shape");
  const std::string dims = match[1];
  for (size_t at = 0; at < dims.size();) {
    const size_t comma = std::min(dims.find(',', at), dims.size());
    const std::string dim = dims.substr(at, comma - at);
    if (dim.find_first_of("0123456789") != std::string::npos) array.shape.push_back(std::stoll(dim));
    at = comma + 1;
  }
  array.bytes.assign(file.begin() + header_at + header_size, file.end());
  if (header.find("'fortran_order': True") != std::string::npos) MakeRowMajor(array);
  return array;
}

template <typename Stored, typename T>
std::vector<T> Convert(const std::vector<unsigned char>& bytes, int64_t size) {
  std::vector<T> out(size);
  for (int64_t i = 0; i < size; ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<T>(value);
  }
  return out;
}

}  // namespace

template <typename T>
std::vector<T> NpyArray::As() const {
  if (dtype == "<f4") return Convert<float, T>(bytes, size());
  if (dtype == "<f8") return Convert<double, T>(bytes, size());
  if (dtype == "<i2") return Convert<int16_t, T>(bytes, size());
  if (dtype == "<i4") return Convert<int32_t, T>(bytes, size());
  if (dtype == "<i8") return Convert<int64_t, T>(bytes, size());
  if (dtype == "|u1" || dtype == "|b1") return Convert<uint8_t, T>(bytes, size());
  if (dtype == "<f2") {
    const auto halves = Convert<uint16_t, uint16_t>(bytes, size());
    std::vector<T> out(halves.size());
    for (size_t i = 0; i < halves.size(); ++i) out[i] = static_cast<T>(HalfToFloat(halves[i]));
    return out;
  }
  Fail("dtype " + dtype + " is not numeric");
}
template std::vector<float> NpyArray::As() const;
template std::vector<double> NpyArray::As() const;
template std::vector<int16_t> NpyArray::As() const;
template std::vector<int32_t> NpyArray::As() const;
template std::vector<int64_t> NpyArray::As() const;

std::vector<std::string> NpyArray::AsStrings() const {
  if (dtype.substr(0, 2) != "<U") Fail("dtype " + dtype + " is not text");
  const size_t width = std::stoul(dtype.substr(2));
  std::vector<std::string> out(size());
  for (size_t i = 0; i < out.size(); ++i) {
    for (size_t j = 0; j < width; ++j) {
      uint32_t c;
      std::memcpy(&c, bytes.data() + (i * width + j) * 4, 4);
      if (c == 0) break;
      if (c < 0x80) {
        out[i] += static_cast<char>(c);
      } else if (c < 0x800) {
        out[i] += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
      } else {
        out[i] += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3f)),
                   static_cast<char>(0x80 | (c & 0x3f))};
      }
    }
  }
  return out;
}

Npz Npz::Load(const std::string& path) {
  int error = 0;
  const std::unique_ptr<zip_t, int (*)(zip_t*)> zip(zip_open(path.c_str(), ZIP_RDONLY, &error), zip_close);
  if (!zip) Fail(path + ": cannot be opened as a zip");
  Npz npz;
  for (zip_int64_t i = 0; i < zip_get_num_entries(zip.get(), 0); ++i) {
    zip_stat_t stat;
    if (zip_stat_index(zip.get(), i, 0, &stat) != 0) Fail(path + ": unreadable entry");
    std::vector<unsigned char> bytes(stat.size);
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(zip_fopen_index(zip.get(), i, 0), zip_fclose);
    if (!file || zip_fread(file.get(), bytes.data(), stat.size) != static_cast<zip_int64_t>(stat.size)) {
      Fail(path + ": " + stat.name + " cannot be read");
    }
    std::string name = stat.name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    npz.arrays_[name] = ParseNpy(bytes, name);
  }
  return npz;
}

const NpyArray& Npz::operator[](const std::string& name) const {
  const auto it = arrays_.find(name);
  if (it == arrays_.end()) Fail("no array named " + name);
  return it->second;
}

}  // namespace ting::testing
