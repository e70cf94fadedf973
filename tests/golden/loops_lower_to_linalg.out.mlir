#map = affine_map<() -> ()>
#map1 = affine_map<(d0, d1) -> (d0, d1)>
#map2 = affine_map<(d0, d1) -> (d0, d1 mod 8)>
#map3 = affine_map<(d0, d1) -> (d0, d1 + 4)>
#map4 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
module attributes {keras.stage = "linalg"} {
  func.func private @while0(tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) attributes {keras.while = {body = @while0_body, condition = @while0_condition}}
  func.func private @while0_condition(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> tensor<i1> {
    %0 = tensor.empty() : tensor<i1>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = []} ins(%arg0 : tensor<i64>) outs(%0 : tensor<i1>) attrs =  {keras.op = "lt"} {
    ^bb0(%in: i64, %out: i1):
      %c4_i64 = arith.constant 4 : i64
      %2 = arith.cmpi slt, %in, %c4_i64 : i64
      linalg.yield %2 : i1
    } -> tensor<i1>
    return %1 : tensor<i1>
  }
  func.func private @while0_body(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) {
    %0 = tensor.empty() : tensor<i64>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = []} ins(%arg0 : tensor<i64>) outs(%0 : tensor<i64>) attrs =  {keras.op = "add"} {
    ^bb0(%in: i64, %out: i64):
      %c1_i64 = arith.constant 1 : i64
      %4 = arith.addi %in, %c1_i64 : i64
      linalg.yield %4 : i64
    } -> tensor<i64>
    %2 = tensor.empty() : tensor<2x4xf32>
    %3 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%arg1 : tensor<2x4xf32>) outs(%2 : tensor<2x4xf32>) attrs =  {keras.op = "tanh"} {
    ^bb0(%in: f32, %out: f32):
      %4 = math.tanh %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %4 : f32
    } -> tensor<2x4xf32>
    return %1, %3 : tensor<i64>, tensor<2x4xf32>
  }
  func.func private @scan0(tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>) attributes {keras.scan = {body = @scan0_body, carries = 1 : i64, length = 3 : i64, reverse = false, scanned = 1 : i64}}
  func.func private @scan0_body(%arg0: tensor<2x4xf32>, %arg1: tensor<2x8xf32>, %arg2: tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) {
    %0 = "keras.matmul"(%arg0, %arg2) {transpose_a = false, transpose_b = false} : (tensor<2x4xf32>, tensor<4x8xf32>) -> tensor<2x8xf32>
    %1 = tensor.empty() : tensor<2x8xf32>
    %2 = linalg.generic {indexing_maps = [#map1, #map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%arg1, %0 : tensor<2x8xf32>, tensor<2x8xf32>) outs(%1 : tensor<2x8xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %11 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %11 : f32
    } -> tensor<2x8xf32>
    %3 = tensor.empty() : tensor<2x4xf32>
    %4 = linalg.generic {indexing_maps = [#map2, #map1], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<2x8xf32>) outs(%3 : tensor<2x4xf32>) attrs =  {keras.op = "slice"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<2x4xf32>
    %5 = tensor.empty() : tensor<2x4xf32>
    %6 = linalg.generic {indexing_maps = [#map3, #map1], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<2x8xf32>) outs(%5 : tensor<2x4xf32>) attrs =  {keras.op = "slice"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<2x4xf32>
    %7 = tensor.empty() : tensor<2x4xf32>
    %8 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%4 : tensor<2x4xf32>) outs(%7 : tensor<2x4xf32>) attrs =  {keras.op = "sigmoid"} {
    ^bb0(%in: f32, %out: f32):
      %cst = arith.constant 1.000000e+00 : f32
      %11 = arith.negf %in fastmath<reassoc,nsz,contract> : f32
      %12 = math.exp %11 fastmath<reassoc,nsz,contract> : f32
      %13 = arith.addf %cst, %12 fastmath<reassoc,nsz,contract> : f32
      %14 = arith.divf %cst, %13 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %14 : f32
    } -> tensor<2x4xf32>
    %9 = tensor.empty() : tensor<2x4xf32>
    %10 = linalg.generic {indexing_maps = [#map1, #map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%8, %6 : tensor<2x4xf32>, tensor<2x4xf32>) outs(%9 : tensor<2x4xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %11 = arith.mulf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %11 : f32
    } -> tensor<2x4xf32>
    return %10, %arg0, %10 : tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func @main(%arg0: tensor<3x2x8xf32> {keras.name = "data/x"}, %arg1: tensor<4x8xf32> {keras.name = "rnn/kernel"}, %arg2: tensor<i64> {keras.donated = 1 : i64, keras.name = "search/count"}) -> (tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>) {
    %0 = tensor.empty() : tensor<2x4xf32>
    %1 = linalg.generic {indexing_maps = [#map1], iterator_types = ["parallel", "parallel"]} outs(%0 : tensor<2x4xf32>) attrs =  {keras.op = "full"} {
    ^bb0(%out: f32):
      %cst = arith.constant 0.000000e+00 : f32
      linalg.yield %cst : f32
    } -> tensor<2x4xf32>
    %2:3 = call @scan0(%1, %arg0, %arg1) : (tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>)
    %3:2 = call @while0(%arg2, %2#0) : (tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>)
    %4 = tensor.empty() : tensor<3x2x4xf32>
    %5 = linalg.generic {indexing_maps = [#map4, #map4, #map4], iterator_types = ["parallel", "parallel", "parallel"]} ins(%2#1, %2#2 : tensor<3x2x4xf32>, tensor<3x2x4xf32>) outs(%4 : tensor<3x2x4xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %6 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<3x2x4xf32>
    return %5, %3#0, %2#2, %3#1 : tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>
  }
}
