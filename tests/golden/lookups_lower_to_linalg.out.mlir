#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1, d2) -> (d0, d1)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#map3 = affine_map<(d0, d1, d2) -> (d0, d2, d1)>
#map4 = affine_map<(d0, d1) -> ()>
module attributes {keras.stage = "linalg"} {
  func.func @main(%arg0: tensor<5x3xf32> {keras.donated = 1 : i64, keras.name = "table"}, %arg1: tensor<2x4xi64> {keras.name = "tokens"}, %arg2: tensor<f32> {keras.name = "rate"}) -> (tensor<2x3xf32>, tensor<5x3xf32>) {
    %0 = tensor.empty() : tensor<2x4xi1>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg1 : tensor<2x4xi64>) outs(%0 : tensor<2x4xi1>) attrs =  {keras.op = "lt"} {
    ^bb0(%in: i64, %out: i1):
      %c0_i64 = arith.constant 0 : i64
      %18 = arith.cmpi slt, %in, %c0_i64 : i64
      linalg.yield %18 : i1
    } -> tensor<2x4xi1>
    %2 = tensor.empty() : tensor<2x4xi64>
    %3 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg1 : tensor<2x4xi64>) outs(%2 : tensor<2x4xi64>) attrs =  {keras.op = "add"} {
    ^bb0(%in: i64, %out: i64):
      %c5_i64 = arith.constant 5 : i64
      %18 = arith.addi %in, %c5_i64 : i64
      linalg.yield %18 : i64
    } -> tensor<2x4xi64>
    %4 = tensor.empty() : tensor<2x4xi64>
    %5 = linalg.generic {indexing_maps = [#map, #map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%1, %3, %arg1 : tensor<2x4xi1>, tensor<2x4xi64>, tensor<2x4xi64>) outs(%4 : tensor<2x4xi64>) attrs =  {keras.op = "select"} {
    ^bb0(%in: i1, %in_0: i64, %in_1: i64, %out: i64):
      %18 = arith.select %in, %in_0, %in_1 : i64
      linalg.yield %18 : i64
    } -> tensor<2x4xi64>
    %6 = tensor.empty() : tensor<2x4x3xf32>
    %7 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%5 : tensor<2x4xi64>) outs(%6 : tensor<2x4x3xf32>) attrs =  {keras.op = "gather"} {
    ^bb0(%in: i64, %out: f32):
      %c5_i64 = arith.constant 5 : i64
      %18 = arith.cmpi ult, %in, %c5_i64 : i64
      %c0_i64 = arith.constant 0 : i64
      %19 = arith.select %18, %in, %c0_i64 : i64
      %20 = arith.index_cast %19 : i64 to index
      %21 = linalg.index 2 : index
      %extracted = tensor.extract %arg0[%20, %21] : tensor<5x3xf32>
      %cst_0 = arith.constant 0x7FC00000 : f32
      %22 = arith.select %18, %extracted, %cst_0 : f32
      linalg.yield %22 : f32
    } -> tensor<2x4x3xf32>
    %8 = tensor.empty() : tensor<2x3xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %9 = linalg.fill ins(%cst : f32) outs(%8 : tensor<2x3xf32>) -> tensor<2x3xf32>
    %10 = linalg.generic {indexing_maps = [#map3, #map1], iterator_types = ["parallel", "parallel", "reduction"]} ins(%7 : tensor<2x4x3xf32>) outs(%9 : tensor<2x3xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: f32, %out: f32):
      %18 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %18 : f32
    } -> tensor<2x3xf32>
    %11 = tensor.empty() : tensor<2x4x3xf32>
    %12 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%7 : tensor<2x4x3xf32>) outs(%11 : tensor<2x4x3xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %out: f32):
      %18 = arith.addf %in, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %18 : f32
    } -> tensor<2x4x3xf32>
    %13 = "keras.scatter"(%12, %5) {fold = "sum", rows = 5 : i64} : (tensor<2x4x3xf32>, tensor<2x4xi64>) -> tensor<5x3xf32>
    %14 = tensor.empty() : tensor<5x3xf32>
    %15 = linalg.generic {indexing_maps = [#map, #map4, #map], iterator_types = ["parallel", "parallel"]} ins(%13, %arg2 : tensor<5x3xf32>, tensor<f32>) outs(%14 : tensor<5x3xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %18 = arith.mulf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %18 : f32
    } -> tensor<5x3xf32>
    %16 = tensor.empty() : tensor<5x3xf32>
    %17 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %15 : tensor<5x3xf32>, tensor<5x3xf32>) outs(%16 : tensor<5x3xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %18 = arith.subf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %18 : f32
    } -> tensor<5x3xf32>
    return %10, %17 : tensor<2x3xf32>, tensor<5x3xf32>
  }
}
